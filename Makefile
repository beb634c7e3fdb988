# The graph: archive -> data/bin -> models/onnx -> models/optimized -> models/om/<chip>/ -> results/<chip>/bs<n>/outputs
# -> accuracy.txt. make asks by time, the scripts decide by content: see scripts/_build.py and scripts/sync_inputs.py.

$(if $(filter output-sync,$(.FEATURES)),,$(error GNU Make 4.0 or newer is needed, this is $(MAKE_VERSION); install it))
MAKEFLAGS += -rR
.DEFAULT_GOAL := help

# Inputs, which decide what is built
BS ?= 16## batch size, 1 to 64
CHIP ?= cpu## a chip of params.yaml
ROOT ?= .## where data/, models/ and results/ lie
SOURCE ?=## cifar10 or sample; empty: as ROOT holds, else cifar10
ARCHIVE ?=## your cifar-10-python.tar.gz, a folder cifar-10-batches-py, or its parent
WEIGHTS ?=## your checkpoint file
# Not inputs
PYTHON ?=## an interpreter to use as it is; empty: .venv, made when needed
V ?=## 1: show the commands

variables := BS CHIP ROOT SOURCE ARCHIVE WEIGHTS PYTHON V
bare := help setup clean distclean demo
goals := $(or $(MAKECMDGOALS),help)
digits := 0 1 2 3 4 5 6 7 8 9
sizes := $(filter-out 0 65 66 67 68 69,$(digits) $(foreach ten,1 2 3 4 5 6,$(addprefix $(ten),$(digits))))
quote = '$(subst ','\'',$1)'
R := $(patsubst ./%,%,$(if $(filter-out . ./,$(ROOT)),$(patsubst %/,%,$(ROOT))/))
M := $(R).make
flags := $(filter-out --%,$(firstword -$(MAKEFLAGS)))
Q := $(if $(filter 1,$(V)),,@)
python := $(if $(PYTHON),$(call quote,$(PYTHON)),.venv/bin/python)
environment := $(if $(PYTHON),,.venv/requirements.txt)
run = $(Q)$(if $(findstring s,$(flags)),,printf '  %-9s %s\n' $1 $@ && )$(python) scripts/$2.py
export DEPS = $^

# Refusals, before anything is installed or written
stages := bin onnx optimized om om-all infer accuracy accuracy-all verify test check
unknown := $(filter-out $(bare) $(stages) $(addprefix $(R),data/% models/% results/% .make/%),$(goals:./%=%))
odd := $(word 2,$(ROOT))$(filter -%,$(ROOT))$(if $(filter-out .,$(ROOT)),$(shell printf %s $(call quote,$(ROOT)) | \
  LC_ALL=C tr -d 'A-Za-z0-9._/+\200-\377-'))
typed := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
strange := $(filter-out $(variables) DEVICE MIRROR ATC AIS_BENCH LAYERS MAKE% -*-% .%,$(typed))
$(if $(unknown),$(error $(unknown): no such target; type make help for all of them))
$(if $(and $(filter setup clean distclean,$(goals)),$(word 2,$(goals))),$(error $(goals): setup, clean and distclean stand \
  alone; type one make command after the other))
$(if $(odd),$(error ROOT=$(ROOT): may hold letters, digits and . _ / + - alone, and not begin with -; give another))
$(if $(strange),$(error $(strange): no such variable; type make help for all of them))
$(if $(PYTHON),$(if $(shell command -v $(call quote,$(PYTHON))),,$(error PYTHON=$(PYTHON): no such program; leave it \
  out to use .venv)))
$(if $(findstring t,$(flags)),$(error make -t would pass off what is stale as made; type make without it))
ifneq ($(filter-out $(bare),$(goals)),)
chips := $(shell sed -n '/^chips:/,/^[^ \#]/s/^  *\([^ :\#]*\):.*/\1/p' params.yaml 2>&1)
$(if $(chips),,$(error params.yaml: no chips in it; see git diff params.yaml))
near = $(shell printf '%s\n' $(chips) | awk -v asked=$(call quote,$(CHIP)) 'BEGIN { asked = tolower(asked); \
  sub("^ascend", "", asked) } index(tolower($$1), substr(asked, 1, 2)) == 1 || index(asked, tolower($$1))')
$(if $(and $(filter 1,$(words $(BS))),$(filter $(sizes),$(BS))),,$(error BS=$(BS): not a batch size; give a whole number \
  from 1 to 64))
$(if $(or $(word 2,$(SOURCE)),$(filter-out cifar10 sample,$(SOURCE))),$(error SOURCE=$(SOURCE): no such source; give \
  cifar10 or sample))
$(if $(and $(filter 1,$(words $(CHIP))),$(filter $(chips),$(CHIP))),,$(error CHIP=$(CHIP): no such chip; \
  near: $(or $(near),none); all: $(chips)))
$(foreach v,ARCHIVE WEIGHTS,$(if $($v),$(if $(shell test -e $(call quote,$($v)) || echo x),$(error \
  $v=$($v): no such file or folder; check the path))))
dry := $(findstring n,$(flags))$(findstring q,$(flags))
$(if $(and $(dry),$(environment),$(shell cmp requirements.txt $(environment) 2>&1)),$(error \
  .venv is missing or its pins changed, and -n and -q install nothing; run make setup first))
endif

help: ## this page: targets, and variables with their present values
	@$(foreach v,$(variables),$v=$(call quote,$($v))) awk -f scripts/help.awk Makefile

setup: $(environment) ## the virtual environment .venv, which every other target makes by itself
demo: ## the whole chain on the built-in sample, on this machine's CPU
	@$(MAKE) --no-print-directory accuracy SOURCE=sample ROOT=demo CHIP=cpu BS=16 ARCHIVE= WEIGHTS=
clean: ## remove what was made under ROOT, and the demo; given inputs and .venv stay
	$(if $(wildcard $(M)),rm -rf $(R)data/bin* $(R)data/labels.* $(R)data/*.tmp.* $(R)models/*.tmp.* $(R)models/onnx \
	  $(R)models/optimized $(R)models/om $(R)results $(M))
	$(if $(R),,rm -rf demo)
distclean: clean ## clean, and remove given inputs and .venv
	rm -rf $(foreach e,tar.gz json,$(R)data/archive.$e) $(foreach e,pkl json,$(R)models/checkpoint.$e) .venv .venv.lock
.venv/requirements.txt: requirements.txt
	$(Q)python3 scripts/setup_env.py --requirements $< --out $(@D)
.venv/requirements-dev.txt: requirements-dev.txt .venv/requirements.txt
	$(Q)python3 scripts/setup_env.py --requirements $< --out $(@D) --dev
test: $(environment:.txt=-dev.txt) ## the tests
	$(Q)$(python) -m pytest tests
check: test ## tests, lint, types, and the Makefile's own
	$(Q)$(python) -m ruff check . && $(python) -m ruff format --check . && $(python) -m mypy
.PHONY: $(bare) $(stages) FORCE

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
  $(and $(filter undefined,$(origin MAKE_RESTARTS)),$(strip $(given)),FORCE)
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
onnx := $(R)models/onnx/3d_attention_net.onnx
optimized := $(R)models/optimized/3d_attention_net.onnx
engine := $(CHIP.$(CHIP).engine)
om := $(R)models/om/$(CHIP)/3d_attention_net_bs%.$(CHIP.$(CHIP).ending)
outputs := $(R)results/$(CHIP)/bs%/outputs/manifest.json
accuracy := $(R)results/$(CHIP)/bs%/accuracy.txt
each = $(foreach n,$2,$(subst %,$n,$1))

ifeq ($(I.archive.by),sample)
$(archive): $(call script,sample official_formats) \
  $(call key,sample.seed sample.train_images sample.test_images)
	$(call run,SAMPLE,sample) --archive $@ --seed $(P.sample.seed) --train-images $(P.sample.train_images) \
	  --test-images $(P.sample.test_images)
else
$(archive): $(M)/given/archive $(call script,fetch preprocess official_formats)
	$(call run,ARCHIVE,fetch) --what archive --given=$(call quote,$(ARCHIVE)) --stat=$(archive_stat) --note $< --out $@
endif
ifeq ($(I.weights.by),sample)
$(weights): $(call script,sample official_formats)
	$(call run,SAMPLE,sample) --checkpoint $@
else
$(weights): $(M)/given/weights $(call script,fetch preprocess official_formats)
	$(call run,WEIGHTS,fetch) --what weights --given=$(call quote,$(WEIGHTS)) --stat=$(weights_stat) --note $< --out $@
endif

$(bins): $(archive) $(call script,preprocess) $(call key,cifar10.test_batch_md5)
	$(call run,BIN,preprocess) --archive $< --official-md5 $(P.cifar10.test_batch_md5) --bins $(@D)
$(labels): $(archive) $(call script,preprocess) $(call key,cifar10.test_batch_md5)
	$(call run,LABELS,preprocess) --archive $< --official-md5 $(P.cifar10.test_batch_md5) --labels $@
$(onnx): $(weights) $(bins) $(call script,export_onnx network reference engines/threads) $(pins) \
  $(call key,onnx.opset onnx.check_images onnx.tolerance cifar10.checkpoint_git_blob)
	$(call run,ONNX,export_onnx) --checkpoint $< --bins $(bins) --opset $(P.onnx.opset) \
	  --check-images $(P.onnx.check_images) --tolerance $(P.onnx.tolerance) \
	  --official-blob $(P.cifar10.checkpoint_git_blob) --out $@
$(optimized): $(onnx) $(bins) $(call script,optimize_onnx reference engines/threads) $(pins) \
  $(call key,optimize.resize optimize.check_images optimize.tolerance)
	$(call run,OPTIMIZE,optimize_onnx) --onnx $< --bins $(bins) --resize $(P.optimize.resize) \
	  --check-images $(P.optimize.check_images) --tolerance $(P.optimize.tolerance) --out $@
$(call each,$(om),$(sizes)): $(om): $(optimized) $(call key,chips.$(CHIP)) $(pins) \
  $(call script,compile_model optimize_onnx reference engines/threads engines/$(engine)_compile)
	$(call run,COMPILE,compile_model) --onnx $< --chip $(CHIP) --engine $(engine) \
	  --options=$(call quote,$(CHIP.$(CHIP).options)) --batch-size $* --out $@
$(call each,$(outputs),$(sizes)): $(outputs): $(om) $(bins) $(call key,infer.format) $(pins) \
  $(call script,infer reference engines/threads engines/$(engine)_run)
	$(call run,INFER,infer) --model $< --record $(R)models/om/$(CHIP)/bs$*.json --bins $(bins) \
	  --format $(P.infer.format) --out $@
$(call each,$(accuracy),$(sizes)): $(accuracy): $(outputs) $(labels) $(call script,postprocess) $(call key,quote.$(CHIP))
	$(call run,ACCURACY,postprocess) --outputs $< --labels $(labels) \
	  --model-record $(R)models/om/$(CHIP)/bs$*.json --published=$(call quote,$(P.quote.$(CHIP))) --out $@

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
verify: $(subst %,$(BS),$(accuracy)) ## the gate: accuracy against its reference in params.yaml
	$(Q)$(python) scripts/verify.py --accuracy $(<:.txt=.json) --chip $(CHIP) \
	  --cifar10 $(P.verify.reference.cifar10.$(CHIP)) $(P.verify.tolerance.cifar10.$(CHIP)) \
	  --sample $(P.verify.reference.sample.$(CHIP)) $(P.verify.tolerance.sample.$(CHIP))
endif
