# The graph: archive -> data/bin -> models/onnx -> models/optimized -> models/om/<chip>/ -> results/<chip>/bs<n>/outputs
# -> accuracy.txt. make asks by time, the scripts decide by content: see scripts/_build.py and scripts/sync_inputs.py.

$(if $(filter output-sync,$(.FEATURES)),,$(error GNU Make 4.0 or newer is needed, this is $(MAKE_VERSION); install it))
MAKEFLAGS += -rR
.DEFAULT_GOAL := help

# Inputs, which decide what is built
BS ?= 16## batch size, 1 to 64
CHIP ?=## a chip of params.yaml; empty: the one that npu-smi shows, else cpu
ROOT ?= .## where data/, models/ and results/ lie
SOURCE ?=## cifar10 or sample; empty: as ROOT holds, else cifar10
ARCHIVE ?=## your cifar-10-python.tar.gz, a folder cifar-10-batches-py, or its parent
WEIGHTS ?=## your checkpoint file
ONNX ?=## your own ONNX file, in place of the export
OM ?=## your own .om for this CHIP and BS, in place of the compiled model
# Not inputs
DEVICE ?=## the NPU's number, or several: 0,1; empty: 0
ATC ?=## the command to use as atc; empty: that of PATH, else after sourcing set_env.sh
AIS_BENCH ?=## the command to use as ais_bench; empty: python3 -m ais_bench
SET_ENV ?=## CANN's set_env.sh; empty: the usual places
MIRROR ?=## the url of a folder that has the downloads, tried before those of params.yaml
PYTHON ?=## an interpreter to use as it is; empty: .venv, made when needed
LAYERS ?=## 1: make compare names the first tensor inside the graph that is off
V ?=## 1: show the commands

variables := BS CHIP ROOT SOURCE ARCHIVE WEIGHTS ONNX OM DEVICE ATC AIS_BENCH SET_ENV MIRROR PYTHON LAYERS V
bare := help setup clean distclean demo doctor
stages := bin onnx optimized om om-all infer accuracy accuracy-all compare perf perf-all best verify report bench upstream test check
goals := $(or $(MAKECMDGOALS),help)
digits := 0 1 2 3 4 5 6 7 8 9
sizes := $(filter-out 0 65 66 67 68 69,$(digits) $(foreach ten,1 2 3 4 5 6,$(addprefix $(ten),$(digits))))
quote = '$(subst ','\'',$1)'
include scripts/bench.mk
R := $(patsubst ./%,%,$(if $(filter-out . ./,$(ROOT)),$(patsubst %/,%,$(ROOT))/))
M := $(R).make
flags := $(filter-out --%,$(firstword -$(MAKEFLAGS)))
Q := $(if $(filter 1,$(V)),,@)
python := $(if $(PYTHON),$(call quote,$(PYTHON)),.venv/bin/python)
environment := $(if $(PYTHON),,.venv/requirements.txt)
run = $(Q)$(if $(findstring s,$(flags)),exec > /dev/null,printf '  %-9s %s\n' $1 $@ && exec) $(python) scripts/$2.py
export DEPS = $^
make := $(MAKE)
export ATC AIS_BENCH SET_ENV

include scripts/refusals.mk

help: ## this page: targets, and variables with their present values
	@$(foreach v,$(variables),$v=$(call quote,$($v))) awk -f scripts/help.awk Makefile scripts/obtain.mk scripts/bench.mk

setup: $(environment) ## the virtual environment .venv, which every other target makes by itself
demo: ## the whole chain on the built-in sample, on this machine's CPU
	@$(MAKE) --no-print-directory accuracy SOURCE=sample ROOT=demo CHIP=cpu BS=16 ARCHIVE= WEIGHTS= ONNX= OM=
doctor: ## what this machine and ROOT have, what is missing, and how to get it
	@python3 scripts/doctor.py --root $(or $(R),.) --make $(MAKE_VERSION) --python=$(call quote,$(PYTHON)) \
	  --chip=$(call quote,$(CHIP)) --devices=$(call quote,$(DEVICE))
clean: ## remove what was made under ROOT, and the demo; given inputs and .venv stay
	$(if $(wildcard $(M)),rm -rf $(R)data/bin* $(R)data/labels.* $(R)data/calibration.* $(R)data/*.tmp.* $(R)models/*.tmp.* \
	  $(R)models/upstream/*.tmp.* $(R)models/onnx $(R)models/optimized $(R)models/int8 $(R)models/om $(R)results $(M))
	$(if $(R),,rm -rf demo)
distclean: clean ## clean, and remove given inputs and .venv
	rm -rf $(foreach e,tar.gz json,$(R)data/archive.$e) $(foreach e,pkl json,$(R)models/checkpoint.$e) $(R)models/upstream \
	  .venv .venv.lock
.venv/requirements.txt: requirements.txt
	$(Q)python3 scripts/setup_env.py --requirements $< --out $(@D)
.venv/requirements-dev.txt: requirements-dev.txt .venv/requirements.txt
	$(Q)python3 scripts/setup_env.py --requirements $< --out $(@D) --dev
test: $(environment:.txt=-dev.txt) ## the tests
	$(Q)$(python) -m pytest tests
check: test ## tests, lint, types, and the Makefile's own
	$(Q)$(python) -m ruff check . && $(python) -m ruff format --check . && $(python) -m mypy
.PHONY: $(bare) $(stages) FORCE
$(if $(and $(word 2,$(goals)),$(filter perf% best report bench %/perf.txt,$(goals))),.NOTPARALLEL:)

CHIPS :=
ifneq ($(filter-out $(bare) test check,$(goals)),)
I.source :=
include $(M)/inputs.mk
stat = $(if $1,$(shell ls -lLdi --time-style=full-iso $(call quote,$1) $(call quote,$1)/*batch* \
  $(call quote,$1)/cifar-10-batches-py/*batch* 2>/dev/null | cksum | tr ' ' -))
held = $(if $1,$(shell cat $(M)/given/$2.stat 2>&1))
archive_stat := $(call stat,$(ARCHIVE))
weights_stat := $(call stat,$(WEIGHTS))
given := $(filter-out $(call held,$(ARCHIVE),archive),$(archive_stat)) \
  $(filter-out $(call held,$(WEIGHTS),weights),$(weights_stat)) $(filter-out $(I.source),\
  $(or $(SOURCE),$(if $(wildcard $(R)data/archive.tar.gz $(R)models/checkpoint.pkl),$(I.source),cifar10)))
$(M)/inputs.mk: params.yaml requirements.txt $(wildcard scripts/*.py scripts/engines/*.py) $(environment) \
  $(if $(filter undefined,$(origin MAKE_RESTARTS)),$(if $(strip $(given))$(if $(CHIPS),,empty),FORCE))
	$(Q)$(python) scripts/sync_inputs.py --params params.yaml --requirements requirements.txt --scripts scripts \
	  --root $(or $(R),.) --source=$(SOURCE) --archive=$(call quote,$(ARCHIVE)) --archive-stat=$(archive_stat) \
	  --weights=$(call quote,$(WEIGHTS)) --weights-stat=$(weights_stat)
endif

ifneq ($(CHIPS),)
script = $(patsubst %,$(M)/scripts/%.py,$1)
key = $(addprefix $(M)/params/,$1)
pins := $(M)/requirements.txt
archive := $(R)data/archive.tar.gz
bins := $(R)data/bin/manifest.json
labels := $(R)data/labels.txt
weights := $(R)models/checkpoint.pkl
sources := basic_layers attention_module residual_attention_network
upstream := $(R)models/upstream/%.py
onnx := $(R)models/onnx/3d_attention_net.onnx
optimized := $(R)models/optimized/3d_attention_net.onnx
engine := $(CHIP.$(CHIP).engine)
limits := $(CHIP.$(CHIP).limits)
modules := $(patsubst scripts/%.py,%,$(wildcard scripts/engines/$(engine)_*.py))
om := $(R)models/om/$(CHIP)/3d_attention_net_bs%.$(CHIP.$(CHIP).ending)
outputs := $(R)results/$(CHIP)/bs%/outputs/manifest.json
accuracy := $(R)results/$(CHIP)/bs%/accuracy.txt
compare := $(R)results/$(CHIP)/bs%/compare.txt
reference := $(R)results/reference/outputs/manifest.json
perf := $(R)results/$(CHIP)/bs%/perf.txt
sweep = $(python) scripts/sweep.py --make $(make) --sizes $(P.batch_sizes) --published $(Q.throughput) \
  --out $(R)results/$(CHIP)/perf.csv
rules := warmup min_duration min_queries tolerance drift spread others
each = $(foreach n,$2,$(subst %,$n,$1))
include scripts/own_models.mk
include scripts/int8.mk

.PRECIOUS: $(archive) $(weights) $(call each,$(upstream),$(sources))
include scripts/obtain.mk

$(bins): $(archive) $(call script,preprocess) $(call key,cifar10.test_batch_md5)
	$(call run,BIN,preprocess) --archive $< --official-md5 $(P.cifar10.test_batch_md5) --bins $(@D)
$(labels): $(archive) $(call script,preprocess) $(call key,cifar10.test_batch_md5)
	$(call run,LABELS,preprocess) --archive $< --official-md5 $(P.cifar10.test_batch_md5) --labels $@
ifneq ($(ONNX),)
$(onnx): $(imports) $(if $(own_onnx),$(call changed,$(ONNX),onnx),FORCE)
	$(call run,ONNX,import_input) --what onnx --given=$(call quote,$(ONNX)) --stat=$(call stat,$(ONNX)) \
	  --note $(M)/given/onnx --out $@
else ifeq ($(own_onnx),)
$(onnx): $(weights) $(bins) $(call script,export_onnx network reference engines/threads) $(pins) \
  $(call key,onnx.opset onnx.check_images onnx.tolerance upstream.model_92_sgd)
	$(call run,ONNX,export_onnx) --checkpoint $< --bins $(bins) --opset $(P.onnx.opset) \
	  --check-images $(P.onnx.check_images) --tolerance $(P.onnx.tolerance) \
	  --official-blob $(P.upstream.model_92_sgd) --out $@
endif
$(optimized): $(onnx) $(bins) $(call script,optimize_onnx passes reference engines/threads) $(pins) \
  $(call key,optimize.resize optimize.check_images optimize.tolerance)
	$(call run,OPTIMIZE,optimize_onnx) --onnx $< --bins $(bins) --resize $(P.optimize.resize) \
	  --check-images $(P.optimize.check_images) --tolerance $(P.optimize.tolerance) --out $@
ifneq ($(OM),)
$(subst %,$(BS),$(om)): $(imports) $(call key,options.$(CHIP)) $(if $(filter $(BS),$(own_sizes)),$(call changed,$(OM),om-$(CHIP)-bs$(BS)),FORCE)
	$(call run,OM,import_input) --what om --given=$(call quote,$(OM)) --stat=$(call stat,$(OM)) \
	  --note $(M)/given/om-$(CHIP)-bs$(BS) --chip $(CHIP) --engine $(engine) \
	  --options=$(call quote,$(P.options.$(CHIP))) --batch-size $(BS) --out $@
endif
$(call each,$(om),$(filter-out $(own_sizes) $(if $(OM),$(BS)),$(sizes))): $(om): $(graph) $(call key,options.$(CHIP)) \
  $(wildcard $(foreach o,$(P.options.$(CHIP)),$(lastword $(subst =, ,$o)))) $(pins) \
  $(call script,compile_model passes engines/threads $(modules))
	$(call run,COMPILE,compile_model) --onnx $< $(addprefix --unquantized ,$(filter-out $<,$(graph))) --chip $(CHIP) --engine $(engine) \
	  --options=$(call quote,$(P.options.$(CHIP))) --limits=$(call quote,$(limits)) --batch-size $* --out $@
$(call each,$(outputs),$(sizes)): $(outputs): $(om) $(bins) $(call key,infer.format) $(pins) \
  $(call script,infer outputs reference engines/threads $(modules))
	$(call run,INFER,infer) --model $< --record $(R)models/om/$(CHIP)/bs$*.json --bins $(bins) \
	  --format $(P.infer.format) --devices=$(DEVICE) --limits=$(call quote,$(limits)) --out $@
$(call each,$(accuracy),$(sizes)): $(accuracy): $(outputs) $(labels) $(call script,postprocess outputs provenance) \
  $(call key,quote.$(CHIP))
	$(call run,ACCURACY,postprocess) --outputs $< --labels $(labels) \
	  --model-record $(R)models/om/$(CHIP)/bs$*.json --published=$(call quote,$(P.quote.$(CHIP))) --out $@

$(reference): $(onnx) $(bins) $(pins) $(call script,infer_reference infer outputs reference engines/threads engines/onnxruntime_run)
	$(call run,REFERENCE,infer_reference) --onnx $< --bins $(bins) --out $@
$(call each,$(compare),$(sizes)): $(compare): $(outputs) $(reference) $(labels) $(call script,compare outputs provenance)
	$(call run,COMPARE,compare) --outputs $< --reference $(reference) --labels $(labels) --out $@
$(call each,$(perf),$(sizes)): $(perf): $(om) $(outputs) $(call key,$(rules:%=perf.%)) $(pins) \
  $(call script,measure timing provenance infer outputs reference engines/threads $(modules))
	$(call run,MEASURE,measure) --model $< --record $(R)models/om/$(CHIP)/bs$*.json --bins $(bins) --outputs $(word 2,$^) \
	  $(foreach r,$(rules),--$(subst _,-,$r) $(P.perf.$r)) --devices=$(DEVICE) --limits=$(call quote,$(limits)) --out $@

bin: $(bins) $(labels) ## the test images as bins, and their labels
onnx: $(onnx) ## checkpoint -> ONNX
optimized: $(optimized) ## ONNX -> optimized ONNX
om: $(subst %,$(BS),$(om)) ## the compiled model for CHIP and BS
om-all: $(call each,$(om),$(P.batch_sizes)) ## the compiled models of every listed batch size
infer: $(subst %,$(BS),$(outputs)) ## outputs for every image
accuracy: $(subst %,$(BS),$(accuracy)) ## everything that is stale, then prints Top-1
	@head -n 6 $< && echo 'All of it: $<'
accuracy-all: $(call each,$(accuracy),$(P.batch_sizes)) ## the same for every listed batch size
	@grep -H Top-1 $^
compare: $(subst %,$(BS),$(compare)) ## this chip's answers beside the reference engine's, image by image
	@head -n 8 $< && echo 'All of it: $<'
	$(if $(filter 1,$(LAYERS)),$(Q)$(python) scripts/compare_layers.py --model $(subst %,$(BS),$(om)) --onnx $(onnx) \
	  --record $(R)models/om/$(CHIP)/bs$(BS).json --bins $(bins) --tolerance $(P.compare.tolerance) --out $(<D)/layers.json)
perf: $(subst %,$(BS),$(perf)) ## throughput and latency, measured on real images
	@head -n 7 $< && echo 'All of it: $<'
perf-all: $(call each,$(outputs),$(P.batch_sizes)) ## the same for every listed batch size, one by one; the table
	$(Q)$(sweep)
best: ## perf-all, and a search for a better batch size
	$(Q)$(sweep) --search $(P.perf.search)
verify: $(subst %,$(BS),$(accuracy)) ## the gate: accuracy against its reference in params.yaml
	$(Q)$(python) scripts/verify.py --accuracy $(<:.txt=.json) --chip $(CHIP) \
	  --cifar10 $(P.verify.cifar10.$(CHIP)) --sample $(P.verify.sample.$(CHIP))
report: ## results/report.html, report.md and junit.xml, of whatever was measured
	$(Q)$(python) scripts/report.py --results $(R)results --bins $(bins) --batch-sizes $(P.batch_sizes) \
	  --published-accuracy $(Q.accuracy) --published-throughput $(Q.throughput) --chips $(Q.chips) \
	  --reference $(Q.gates) --out $(R)results/report.html --readme $(wildcard README.md README.zh-CN.md)
endif
