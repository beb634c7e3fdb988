# Builds accuracy and speed figures from an archive of images and a checkpoint, one file per stage:
#   archive -> data/bin -> models/onnx -> models/optimized -> models/om/<chip>/ -> results/<chip>/bs<n>/outputs
#     -> accuracy.txt, compare.txt, perf.txt -> report
#
# How staleness works: make compares times and starts the stage's command. The command compares contents and, if nothing
# differs, only renews the file's time. Settings and scripts are prerequisites as copies under ROOT/.make, which are
# written only when their bytes differ: a rule names its data and $(uses.<command>), which sync_inputs.py generates.

# -------------------------------------------------------------------------------------------- settings
# `make help` prints the ## texts. ?= keeps a value from the environment.

##@ Inputs, which determine what is built
BS ?= 16## batch size, 1 to 64
CHIP ?=## a chip of params.yaml; empty: the one that npu-smi shows, else the first one in params.yaml
ROOT ?= .## the folder that contains data/, models/ and results/
SOURCE ?=## cifar10 or sample; empty: that of the inputs in ROOT, else cifar10
PARAMS ?=## the file with the settings; empty: the one that ROOT was last built with, else params.yaml
ARCHIVE ?=## your own cifar-10-python.tar.gz, a folder cifar-10-batches-py, or its parent
WEIGHTS ?=## your own checkpoint file
ONNX ?=## your own ONNX file, instead of the export
OM ?=## your own .om file for this CHIP and BS, instead of the compiled model

##@ Options, which do not invalidate artifacts
DEVICE ?=## the NPU device number, or several as 0,1; empty: 0
ATC ?=## the atc command; empty: atc of PATH, else the one after sourcing set_env.sh
AIS_BENCH ?=## the ais_bench command; empty: python3 -m ais_bench
SET_ENV ?=## path of the set_env.sh of CANN; empty: the usual locations
MIRROR ?=## the URL of a folder with the downloads, tried before the URLs of params.yaml
PYTHON ?=## a Python interpreter that has the packages; empty: .venv, created when needed
FRESH ?=## 1: perf, perf-all and best measure again, even if nothing changed
LAYERS ?=## 1: make compare also reports the first intermediate tensor above the tolerance
T ?=## the tests for make test and make fuzz, such as tests/make/test_graph.py::NAME; empty: all
N ?= 10000## the number of inputs that make fuzz tries with each property test
WHY ?=## 1: print why each target is stale
V ?=## 1: print the commands

# Groups of targets: alone must be the only goal, bare need no settings, any_chip need no chip.
alone := setup clean clean-results distclean
bare := help demo doctor pins lock $(alone)
any_chip := bin onnx optimized report audit-all reproduce bench upstream docs test fuzz check
stages := $(any_chip) om om-all infer accuracy accuracy-all compare perf perf-all best verify verify-all audit

# --------------------------------------------------------------------------------- checks of arguments
# The lines below use features of make 4.0, such as the export of a recursive variable.
$(if $(filter output-sync,$(.FEATURES)),,$(error GNU Make 4.0 or newer is required, not $(MAKE_VERSION); install it))
# Variables of make that it would else take from the environment.
VPATH :=
.SHELLFLAGS := -c
MAKE = $(MAKE_COMMAND)
MAKEFLAGS += -rR
.DEFAULT_GOAL := help
goals := $(or $(MAKECMDGOALS),help)
letters := $(patsubst -%,%,$(filter-out --%,$(firstword -$(MAKEFLAGS))))# make's own one-letter flags
network := 3d_attention_net# file name of graphs and models without ending: NAME in scripts/network/spec.py
environment := $(if $(value PYTHON),,.venv/requirements.txt)

define newline


endef
# $(call quote,TEXT): TEXT as one word for the shell. $(shell) would drop a line break, so it is replaced by a ?.
quote = '$(subst ','\'',$(subst $(newline),?,$1))'

settings := BS CHIP ROOT SOURCE PARAMS ARCHIVE WEIGHTS ONNX OM DEVICE ATC AIS_BENCH SET_ENV MIRROR PYTHON \
  FRESH LAYERS T N WHY V
origins_of = $(foreach v,$2,$(if $(filter $1,$(firstword $(origin $v))),$v))
from_environment := $(call origins_of,environment,$(settings))
from_command_line := $(call origins_of,command,$(settings))
restarts := $(if $(filter undefined,$(origin MAKE_RESTARTS)),,$(MAKE_RESTARTS))# the environment may contain it too
# .VARIABLES itself may be on the command line.
unknown_variables := $(filter-out $(settings) -*-%,$(call origins_of,command,$(.VARIABLES) .VARIABLES))
# What make reads before this file, and names that would hide the goals from preflight.sh.
reserved := $(call origins_of,environment override,MAKECMDGOALS MAKE_COMMAND .VARIABLES) \
  $(call origins_of,override,MAKEFLAGS) $(if $(MAKEFILES),MAKEFILES)
makeflags = $(MAKEFLAGS)
# make would expand a single $ in a value: preflight.sh gets the values as typed and rejects them.
typed = $(subst $$$$,$$,$(value $1))
dollars := $(foreach v,$(settings),$(if $(findstring $$,$(subst $$$$,,$(value $v))),$v))
facts := settings dollars from_environment from_command_line unknown_variables reserved restarts makeflags
facts += goals alone bare any_chip stages network environment
# The values are on the command line of the shell, because before GNU Make 4.4 $(shell) does not see exported variables.
answer := $(shell $(foreach v,$(settings),$v=$(call quote,$(call typed,$v))) \
  $(foreach v,$(facts),$v=$(call quote,$($v))) flags=$(letters) pid=$$PPID; . scripts/make/preflight.sh)
no_answer := preflight.sh: no output; run make in the folder of the Makefile
$(if $(filter ok,$(firstword $(answer))),,$(error $(or $(answer),$(no_answer))))
answer_of = $(patsubst $1=%,%,$(filter $1=%,$(answer)))
restarted := $(call answer_of,restarted)# yes if this make has restarted after it wrote inputs.mk
override BS := $(strip $(BS))
override CHIP := $(or $(call answer_of,chip),$(strip $(CHIP)))
override ROOT := $(call answer_of,root)
override SOURCE := $(call answer_of,source)
override PARAMS := $(call answer_of,params)
root := $(patsubst ./%,%,$(if $(filter-out . ./,$(ROOT)),$(patsubst %/,%,$(ROOT))/))
# make -n and -q use a copy of .make, because they must not write to ROOT.
dry := $(and $(filter-out $(bare),$(goals)),$(findstring n,$(letters))$(findstring q,$(letters)))
state := $(if $(dry),$(shell sh scripts/make/copy_state.sh $(root).make $(restarted)),$(root).make)
$(if $(state),,$(error TMPDIR: no copy of $(root).make can be written there; set TMPDIR to another folder))

# ------------------------------------------------------------------------------ definitions for recipes
quiet := $(if $(filter 1,$(V)),,@)
# -E: PYTHONPATH and other variables of Python do not change the commands. Programs of CANN still get them.
interpreter := $(if $(PYTHON),$(call quote,$(PYTHON)),.venv/bin/python) -E
python = $(check_inputs)$(interpreter)
make := $(MAKE)# make runs recipe lines that contain the text $(MAKE) even under -n
export ATC AIS_BENCH SET_ENV WHY PARAMS
# The digest of settings and scripts that this make has read: see renew() in scripts/_support/artifact.py.
export INPUTS_DIGEST = $(input.digest)
# $(check_inputs): stops before a recipe runs with the settings of an earlier make, as after make -o inputs.mk.
check_inputs = $(if $(unread),$(error $(state)/inputs.mk: not updated; run make without -o))
changed_meanwhile = $(PARAMS): settings or scripts changed while make read them; run the same command again
# Recursive, so that each recipe exports its own prerequisites: the artifact gets a time not older than theirs.
export DEPS = $^
because = printf '            checked because of: %s\n' '$(if $(wildcard $@),$(subst $(state)/,,$?),no such file)';
# $(call run,LABEL,command): the recipe of a stage up to the arguments. With exec, signals reach the command itself.
announce = printf '  %-9s %s\n' $1 $@; $(if $(filter 1,$(WHY)),$(because))
run = $(quiet)$(if $(findstring s,$(letters)),exec > /dev/null;,$(announce)) exec $(python) scripts/$2.py
# $(call each,PATTERN,WORDS): PATTERN for each word, which replaces its %.
each = $(foreach word,$2,$(subst %,$(word),$1))
digits := 0 1 2 3 4 5 6 7 8 9
sizes := $(filter-out 0 65 66 67 68 69,$(digits) $(foreach ten,1 2 3 4 5 6,$(addprefix $(ten),$(digits))))
.PHONY: $(bare) $(stages) FORCE
# A measurement must run alone: together with other goals, make runs all goals one by one, also under -j.
$(if $(and $(word 2,$(goals)),$(filter perf% best report bench %/perf.txt,$(goals))),.NOTPARALLEL:)

# .venv is rebuilt when requirements.txt has other bytes, whatever the times. cmp prints to stderr if one file is the
# beginning of the other.
differs = $(if $(wildcard $2),$(if $(shell cmp $1 $2 2>&1),FORCE))
outdated := $(if $(environment),$(if $(wildcard $(environment)),$(call differs,requirements.txt,$(environment)),FORCE))
.venv/requirements.txt: $(outdated)
	$(quiet)python3 -E scripts/setup_env.py --requirements requirements.txt --out $(@D)
.venv/requirements-dev.txt: .venv/requirements.txt $(call differs,requirements-dev.txt,.venv/requirements-dev.txt)
	$(quiet)python3 -E scripts/setup_env.py --requirements requirements-dev.txt --out $(@D) --dev

# ------------------------------------------------------------------ generated: what commands depend on
chips :=
batch_sizes :=
input.digest :=
input.files :=
input.source :=
input.archive :=
input.weights :=
unread :=
ifneq ($(filter-out $(bare) test fuzz check,$(goals)),)
# inputs.mk defines uses.<command>, flags.<command> and variables of each chip: see scripts/params/makefile.py.
# make rebuilds an included file by its rule and then restarts with it. -include would continue without the file.
# A file that is incomplete, or not of sync_inputs.py, is not read: see has_own_inputs() in preflight.sh. Nor is what is
# no file or folder, such as a named pipe.
$(if $(filter damaged special,$(call answer_of,inputs)),$(shell rm -f $(state)/inputs.mk))
$(if $(filter special,$(call answer_of,inputs)),$(shell find $(state) ! -type f ! -type d ! -type l -exec rm -f {} +))
include $(state)/inputs.mk
watched := $(PARAMS) requirements.txt $(sort $(wildcard scripts/*.py scripts/*/*.py scripts/*/*/*.py))
quoted = $(foreach word,$1,$(call quote,$(word)))
digest := $(firstword $(shell sha256sum -- $(call quoted,$(watched) $(filter-out $(watched),$(input.files))) \
  2> /dev/null | sha256sum))
# $(call stat_of,PATH,name): checksum of inode, size and time of a user's file or folder, and of the data files of a
# graph, which the last import listed in given/onnx.data. $(call is_new,PATH,name,STAT): not empty if STAT differs from
# that of the last import. (filter-out would take a % in a damaged file for any text.)
stat_of = $(if $1,$(shell sh scripts/make/stat_of.sh $(call quote,$1) \
  < $(or $(wildcard $(state)/given/$2.data),/dev/null)))
is_new = $(if $1,$(subst <$(shell cat $(state)/given/$2.stat 2>&1)>,,<$3>))
archive_stat := $(call stat_of,$(ARCHIVE),archive)
weights_stat := $(call stat_of,$(WEIGHTS),weights)
present := $(wildcard $(root)data/archive.tar.gz $(root)models/checkpoint.pkl)
# In a ROOT of the sample, your own file that you removed again: the sample's replaces it.
removed := $(if $(filter sample,$(input.source)),$(if $(wildcard $(root)data/archive.tar.gz)$(input.archive),,archive) \
  $(if $(wildcard $(root)models/checkpoint.pkl)$(input.weights),,weights))
# Copies of settings and scripts that are missing in .make.
copies := $(sort $(foreach name,$(filter uses.%,$(.VARIABLES)),$($(name))))
lost := $(filter-out $(wildcard $(copies)),$(copies))
stale := $(lost) $(filter-out $(input.digest),$(digest)) \
  $(call is_new,$(ARCHIVE),archive,$(archive_stat)) \
  $(call is_new,$(WEIGHTS),weights,$(weights_stat)) \
  $(filter-out $(input.source),$(or $(SOURCE),$(if $(present),$(input.source),cifar10))) $(removed)
# If inputs.mk or .venv could not be updated, make -k would go on with the previous settings or packages. -S cancels -k
# until the restart.
$(if $(restarted),,$(if $(strip $(stale) $(outdated)),$(eval MAKEFLAGS += -S)))
# FORCE makes inputs.mk stale if contents differ. After the restart it is up to date, or else make would restart forever
# while files change.
$(if $(restarted),$(if $(filter-out $(input.digest),$(digest)),$(error $(changed_meanwhile))))
unread := $(if $(restarted),,$(strip $(stale)))
$(state)/inputs.mk: $(if $(unread),FORCE) | $(environment)
	$(quiet)$(interpreter) scripts/sync_inputs.py --params $(PARAMS) --requirements requirements.txt --scripts scripts \
	  --watch $(call quoted,$(watched)) --root $(or $(root),.) --state $(state) --source=$(SOURCE) \
	  --archive=$(call quote,$(ARCHIVE)) --archive-stat=$(archive_stat) \
	  --weights=$(call quote,$(WEIGHTS)) --weights-stat=$(weights_stat)
	@echo $$PPID > $(state)/restarted
endif

ifneq ($(chips),)
# -------------------------------------------------------------------------------------- names of files
archive := $(root)data/archive.tar.gz
bins := $(root)data/bin/manifest.json
uint8_bins := $(root)data/bin-uint8/manifest.json
input := $(if $(uint8.$(CHIP)),$(uint8_bins),$(bins))# the bins that the chip's models read
labels := $(root)data/labels.txt
calibration := $(root)data/calibration.bin
weights := $(root)models/checkpoint.pkl
onnx := $(root)models/onnx/$(network).onnx
optimized := $(root)models/optimized/$(network).onnx
int8 := $(root)models/int8/$(network).onnx
graph := $(if $(int8.$(CHIP)),$(int8),$(optimized))# the input of the chip's compiler
# The files of a batch size, which replaces the %.
om := $(root)models/om/$(CHIP)/$(network)_bs%.$(ending.$(CHIP))
om_record = $(root)models/om/$(CHIP)/bs$*.json
outputs := $(root)results/$(CHIP)/bs%/outputs/manifest.json
accuracy := $(root)results/$(CHIP)/bs%/accuracy.txt
compare := $(root)results/$(CHIP)/bs%/compare.txt
perf := $(root)results/$(CHIP)/bs%/perf.txt
reference := $(root)results/reference/outputs/manifest.json
# $(call incomplete,PATTERN,NAMES): the pages of a pattern that exist without all of the files NAMES beside them.
without = $(strip $(foreach name,$2,$(if $(wildcard $(dir $1)$(name)),,$(name))))
incomplete = $(foreach page,$(wildcard $(subst %,*,$1)),$(if $(call without,$(page),$2),$(page)))
# A user's own .onnx or .om is imported when ONNX or OM is set, and stays in use when it is not.
own_onnx := $(call answer_of,own_onnx)
comma := ,
own_sizes := $(subst $(comma), ,$(call answer_of,own_sizes))
# $(call if_new,PATH,name): FORCE, unless the user's file is the one that was imported last.
if_new = $(if $(call is_new,$1,$2,$(call stat_of,$1,$2)),FORCE)

# ----------------------------------------------------------------------------------------------- rules
# Downloads and imports: archive.tar.gz, checkpoint.pkl, the upstream sources.
include scripts/make/inputs.mk

$(bins): $(archive) $(uses.preprocess)
	$(call run,BIN,preprocess) --archive $(archive) $(flags.preprocess) --bins $(@D)

$(uint8_bins): $(archive) $(uses.preprocess)
	$(call run,BIN,preprocess) --archive $(archive) $(flags.preprocess) --type uint8 --bins $(@D)

$(labels): $(archive) $(uses.preprocess)
	$(call run,LABELS,preprocess) --archive $(archive) $(flags.preprocess) --labels $@

# The plain graph: the user's own if ONNX is set or was set earlier, else the export.
ifneq ($(ONNX),)
$(onnx): $(uses.import_input) $(if $(own_onnx),$(call if_new,$(ONNX),onnx),FORCE)
	$(call run,ONNX,import_input) --what onnx --given=$(call quote,$(ONNX)) --note $(state)/given/onnx \
	  $(flags.$(CHIP).compile) --out $@
else ifeq ($(own_onnx),)
$(onnx): $(weights) $(bins) $(uses.export_onnx)
	$(call run,ONNX,export_onnx) --checkpoint $(weights) --bins $(bins) $(flags.export_onnx) --out $@
endif

$(optimized): $(onnx) $(bins) $(uses.optimize_onnx)
	$(call run,OPTIMIZE,optimize_onnx) --onnx $(onnx) --bins $(bins) $(flags.optimize_onnx) --out $@

$(calibration): $(archive) $(uses.make_calibration)
	$(call run,TRAINING,make_calibration) --archive $(archive) $(flags.make_calibration) --out $@

$(int8): $(optimized) $(calibration) $(uses.quantize_onnx)
	$(call run,INT8,quantize_onnx) --onnx $(optimized) --calibration $(calibration) $(flags.quantize_onnx) --out $@

# The compiled models, a rule for every batch size except those for which ROOT contains a user's own model.
$(call each,$(om),$(filter-out $(own_sizes) $(if $(OM),$(BS)),$(sizes))): $(om): $(graph) $(optimized) \
  $(uses.compile_model) $(uses.$(CHIP).compile)
	$(call run,COMPILE,compile_model) --onnx $(graph) $(if $(int8.$(CHIP)),--unquantized $(optimized)) \
	  $(flags.$(CHIP).compile) --batch-size $* --out $@
ifneq ($(OM),)
$(subst %,$(BS),$(om)): $(uses.import_input) $(state)/params/options.$(CHIP) \
  $(if $(filter $(BS),$(own_sizes)),$(call if_new,$(OM),om-$(CHIP)-bs$(BS)),FORCE)
	$(call run,OM,import_input) --what om --given=$(call quote,$(OM)) --stat=$(call stat_of,$(OM),om) \
	  --note $(state)/given/om-$(CHIP)-bs$(BS) $(flags.$(CHIP).compile) --batch-size $(BS) --out $@
endif

$(call each,$(outputs),$(sizes)): $(outputs): $(om) $(input) $(uses.infer) $(uses.$(CHIP).run)
	$(call run,INFER,infer) --model $< --record $(om_record) --bins $(input) \
	  $(flags.infer) $(flags.$(CHIP).run) --devices=$(DEVICE) --out $@

$(call each,$(accuracy),$(sizes)): $(accuracy): $(outputs) $(labels) $(uses.postprocess) $(uses.$(CHIP).accuracy)
	$(call run,ACCURACY,postprocess) --outputs $< --labels $(labels) --model-record $(om_record) \
	  $(flags.postprocess) $(flags.$(CHIP).accuracy) --out $@

$(reference): $(onnx) $(bins) $(uses.infer_reference) $(uses.reference.run)
	$(call run,REFERENCE,infer_reference) --onnx $(onnx) --bins $(bins) $(flags.infer_reference) --out $@

$(call each,$(compare),$(sizes)): $(compare): $(outputs) $(reference) $(labels) $(uses.compare)
	$(call run,COMPARE,compare) --outputs $< --reference $(reference) --labels $(labels) $(flags.compare) --out $@

$(call each,$(perf),$(sizes)): $(perf): $(om) $(outputs) $(uses.measure) $(uses.$(CHIP).perf) \
  $(if $(filter 1,$(FRESH)),FORCE)
	$(call run,MEASURE,measure) --model $< --record $(om_record) --bins $(input) --outputs $(word 2,$^) \
	  $(flags.measure) $(flags.$(CHIP).perf) --devices=$(DEVICE) $(if $(filter 1,$(FRESH)),--fresh) --out $@

# A page without the files that are written with it is built again.
$(call incomplete,$(accuracy),accuracy.json predictions.csv statement.json): FORCE
$(call incomplete,$(compare),compare.json): FORCE
$(call incomplete,$(perf),perf.json perf.statement.json): FORCE
endif

# --------------------------------------------------------------------------------------------- targets
##@ Get started
help: ## list targets, and settings with their present values
	@$(foreach v,$(settings),$v=$(call quote,$($v))) awk -f scripts/make/help.awk Makefile
# The sample with the default settings, whatever is set, and its lock.
sample := SOURCE=sample ROOT=demo CHIP=$(call answer_of,fallback) BS=16 PARAMS=params.yaml ARCHIVE= WEIGHTS= ONNX= OM= \
  DEVICE= ATC= AIS_BENCH= SET_ENV= MIRROR= LAYERS= T= N= WHY=$(filter 1,$(WHY))
lock_sample = @$(python) scripts/lock_sample.py --root demo --lock tests/golden/lock.json \
  --accuracy demo/results/$(call answer_of,fallback)/bs16/accuracy.txt
demo: ## run the whole pipeline on the built-in sample, on the CPU
	@$(MAKE) --no-print-directory accuracy $(sample)
	$(lock_sample)
	@sh scripts/make/next_steps.sh demo $(call answer_of,fallback)
doctor: ## check what this machine and ROOT have, what is missing, and how to get it
	@python3 -E scripts/doctor.py --root $(or $(root),.) --make $(MAKE_VERSION) --python=$(call quote,$(PYTHON)) \
	  --params $(PARAMS) --chip=$(call quote,$(CHIP)) --devices=$(call quote,$(DEVICE))
setup: $(environment) ## create the virtual environment .venv; other targets do this when needed

ifneq ($(chips),)
# Every stage imports the user's files, also a stage that does not read them: a later make must find them in ROOT.
user_files := $(if $(ARCHIVE),$(archive)) $(if $(WEIGHTS),$(weights)) $(if $(ONNX),$(onnx)) \
  $(if $(OM),$(subst %,$(BS),$(om)))
goal_files := $(filter $(call each,$(root)%,data/% models/% results/%),$(goals))
# Without this check, a file that no rule builds would be a goal with nothing to do.
built = $(archive) $(weights) $(bins) $(uint8_bins) $(labels) $(calibration) $(onnx) $(optimized) $(int8) $(reference) \
  $(call each,$(upstream),$(upstream_sources)) \
  $(foreach pattern,$(om) $(outputs) $(accuracy) $(compare) $(perf),$(call each,$(pattern),$(sizes)))
no_target = not a file that make builds by itself; use accuracy.txt, compare.txt or perf.txt, or run make help
$(foreach goal,$(goal_files),$(if $(filter $(goal),$(built)),,$(error $(goal): $(no_target))))
$(filter-out $(any_chip) audit,$(stages)) bin onnx optimized $(filter-out $(user_files),$(goal_files)): | $(user_files)

# $(call check_device,RECORD): a note if DEVICE is set for a chip with numbered devices, but the file was computed on
# another device and is up to date.
check_device = $(if $(call answer_of,numbered),@sh scripts/make/other_device.sh $(DEVICE) $(subst %,$(BS),$1))
# $(call check_tools,RESULT): a note for each of CANN's tools on the command line that was not started, because the
# compiled model and RESULT, a folder or a record, are up to date.
check_tools = $(if $(call answer_of,begun),@sh scripts/make/unused_tools.sh $(call answer_of,begun) \
  '$(foreach v,$(filter ATC AIS_BENCH SET_ENV,$(from_command_line)),$(if $($v),$v))' \
  $(root)models/om/$(CHIP)/bs$(BS).json $1)

##@ Stages
bin: $(bins) $(filter-out $(bins),$(input)) $(labels) ## convert the test images to bins, and their labels to text
onnx: $(onnx) ## export the checkpoint to ONNX
optimized: $(optimized) ## optimize the ONNX graph
om: $(subst %,$(BS),$(om)) ## compile the model for CHIP and BS
	$(call check_tools)
om-all: $(call each,$(om),$(batch_sizes)) ## compile the model for every batch size of params.yaml
infer: $(subst %,$(BS),$(outputs)) ## run inference on every test image
	$(call check_device,$(outputs))
	$(call check_tools,$(root)results/$(CHIP)/bs$(BS)/outputs)

##@ Results
check_pages = $(check_inputs)set -- $^; . scripts/make/check_pages.sh
accuracy: $(subst %,$(BS),$(accuracy)) ## build all stages up to the accuracy and print Top-1
	@$(check_pages) && head -n 6 $< && echo 'Full report: $< (its digest is in accuracy.json)'
	$(call check_device,$(outputs))
	$(call check_tools,$(root)results/$(CHIP)/bs$(BS)/outputs)
accuracy-all: $(call each,$(accuracy),$(batch_sizes)) ## the same for every batch size of params.yaml
	@$(check_pages) && grep -H Top-1 $^
verify = $(quiet)$(python) scripts/verify.py --accuracy $(^:.txt=.json) --chip $(CHIP) $(flags.verify) \
  --out $(root)results/junit.xml
verify: $(subst %,$(BS),$(accuracy)) ## fail if Top-1 is below the limit in params.yaml; write results/junit.xml
	$(verify)
verify-all: $(call each,$(accuracy),$(batch_sizes)) ## the same for every batch size of params.yaml
	$(verify)
audit = $(quiet)$(python) scripts/audit.py --root $(or $(root),.) --params $(PARAMS)
audit: ## check that the results of CHIP and BS follow from their inputs: all digests and figures, computed again
	$(audit) --chips $(CHIP) --batch-sizes $(BS)
audit-all: ## the same for every result in ROOT
	$(audit)
reproduce: ## build the sample twice under different conditions, on the CPU, and compare every byte
	$(quiet)$(python) scripts/reproduce.py --make $(make) --root $(or $(root),.) --params $(PARAMS) \
	  --chips $(foreach chip,$(chips),$(chip)=$(engine.$(chip))) --batch-size $(BS)
compare: $(subst %,$(BS),$(compare)) ## compare the outputs with those of the reference engine, image by image
	@$(check_pages) && head -n 8 $< && echo 'Full report: $< (its digest is in compare.json)'
	$(if $(filter 1,$(LAYERS)),$(quiet)$(python) scripts/compare_layers.py --model $(subst %,$(BS),$(om)) --onnx $(onnx) \
	  --record $(root)models/om/$(CHIP)/bs$(BS).json --bins $(input) $(flags.compare_layers) --out $(<D)/layers.json)
perf: $(subst %,$(BS),$(perf)) ## measure throughput and latency on the test images
	@$(check_pages) && head -n 7 $< && echo 'Full report: $< (its digest is in perf.json)'
	$(call check_device,$(perf:.txt=.json))
	$(call check_tools,$(root)results/$(CHIP)/bs$(BS)/perf.json)
sweep = $(python) scripts/sweep.py --make $(make) $(flags.sweep) --out $(root)results/$(CHIP)/perf.csv
perf-all: $(call each,$(accuracy),$(batch_sizes)) ## accuracy and speed of every batch size of params.yaml, as a table
	$(quiet)$(sweep)
best: ## perf-all, then search for the batch size with the highest throughput
	$(quiet)$(sweep) --search
report: ## write results/report.html, report.md, results.csv and junit.xml of all results in ROOT
	$(quiet)$(python) scripts/report.py --results $(root)results --bins $(bins) $(flags.report) \
	  --out $(root)results/report.html
bench: ## compare the speed with ONNX Runtime, PyTorch and OpenVINO; without inputs, on the sample
	$(quiet)$(python) scripts/bench.py $(flags.bench) --make $(make) --python=$(call quote,$(PYTHON)) \
	  --root $(or $(root),.) --inputs SOURCE=$(SOURCE) PARAMS=$(PARAMS) \
	  ARCHIVE=$(call quote,$(ARCHIVE)) WEIGHTS=$(call quote,$(WEIGHTS)) \
	  --chips $(foreach chip,$(chips),$(chip)=$(engine.$(chip))) \
	  --int8 $(foreach chip,$(chips),$(if $(int8.$(chip)),$(chip))) --batch-size $(BS) --out $(root)results/bench.json

##@ Project
upstream: $(call each,$(upstream),$(upstream_sources)) $(if $(WEIGHTS),$(weights),$(wildcard $(weights)))
upstream: ## check that scripts/network gives the same logits as the patched upstream source
	$(quiet)$(python) scripts/check_upstream.py --sources $(filter %.py,$^) $(flags.check_upstream) \
	  --patches $(sort $(wildcard patches/*.patch)) --checkpoint $(filter %.pkl,$^)
docs: ## write docs/reference.md and the published figures of the readmes
	$(quiet)$(python) scripts/write_docs.py --makefile Makefile --params params.yaml $(flags.write_docs) \
	  --readmes README.md README.zh-CN.md --out docs/reference.md
endif
spell_checked := $(wildcard *.md */README.md) docs scripts Makefile params.yaml
spelled_so := cann,classfication,rocess# CANN, a folder of ModelZoo, a part of a regular expression
test: $(environment:.txt=-dev.txt) ## run the tests
	$(quiet)$(python) -m pytest $(call quote,$(or $(T),tests))
fuzz: $(environment:.txt=-dev.txt) ## run the property tests longer, with N inputs each, and print the counts
	$(quiet)$(python) -m pytest -q -m hypothesis --fuzz=$(N) $(call quote,$(or $(T),tests))
check: test ## run the tests, linters, type checks, and the search for known vulnerabilities
	$(quiet)$(python) -m ruff check . && $(python) -m ruff format --check . && $(python) -m mypy
	$(quiet)$(python) scripts/make/lint_make.py Makefile scripts/make/*.mk
	$(quiet)if command -v shellcheck > /dev/null; then shellcheck scripts/make/*.sh; \
	  else echo 'shellcheck: not installed, so scripts/make/*.sh are not linted'; fi
	$(quiet)$(python) scripts/make/lint_docs.py
	$(quiet)$(python) -m codespell_lib --ignore-words-list=$(spelled_so) $(spell_checked)
	$(quiet)$(python) -m bandit --quiet --configfile pyproject.toml --recursive scripts
	$(quiet)$(python) scripts/check_advisories.py requirements.txt requirements-cuda.txt requirements-dev.txt
pins: $(environment:.txt=-dev.txt) ## write requirements*.txt, with the digest of each file, from requirements*.in
	$(quiet)$(python) scripts/pin_requirements.py
lock: ## write tests/golden/lock.json, the digests of the sample that every machine computes
	@$(MAKE) --no-print-directory accuracy demo/data/calibration.bin $(sample)
	$(lock_sample) --write
clean = $(quiet)sh scripts/make/clean.sh $@ $(or $(root),.) $(network)
clean: ## remove what was built in ROOT, and without ROOT= also demo/; keep measurements, inputs and .venv
	$(clean)
clean-results: ## remove results/ of ROOT with its measurements
	$(clean)
distclean: ## remove all that clean and clean-results remove, and the inputs of ROOT and .venv too
	$(clean)
