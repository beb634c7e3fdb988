# What a tired person types: refused in one line, before anything is installed or written. Included by the Makefile.

override BS := $(strip $(BS))
override CHIP := $(strip $(CHIP))
unknown := $(filter-out $(bare) $(stages) $(addprefix $(R),data/% models/% results/% .make/%),$(goals:./%=%))
odd := $(word 2,$(ROOT))$(filter -%,$(ROOT))$(if $(filter-out .,$(ROOT)),$(shell printf %s $(call quote,$(ROOT)) | \
  LC_ALL=C tr -d 'A-Za-z0-9._/+\200-\377-'))
typed := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
strange := $(filter-out $(variables) MAKE% -*-% .%,$(typed))
$(if $(unknown),$(error $(unknown): no such target; type make help for all of them))
$(if $(and $(filter setup clean distclean,$(goals)),$(word 2,$(goals))),$(error $(goals): setup, clean and distclean stand \
  alone; type one make command after the other))
$(if $(odd),$(error ROOT=$(ROOT): may hold letters, digits and . _ / + - alone, and not begin with -; give another))
$(if $(strange),$(error $(strange): no such variable; type make help for all of them))
$(if $(MIRROR),$(if $(and $(filter 1,$(words $(MIRROR))),$(filter http://% https://%,$(MIRROR)),$(if \
  $(findstring @,$(MIRROR))$(findstring ?,$(MIRROR)),,x)),,$(error MIRROR: no http or https url without a password; give http://host/folder)))
$(if $(PYTHON),$(if $(shell command -v $(call quote,$(PYTHON))),,$(error PYTHON=$(PYTHON): no such program; leave it \
  out to use .venv)))
$(if $(findstring t,$(flags)),$(error make -t would pass off what is stale as made; type make without it))
ifneq ($(filter-out $(bare),$(goals)),)
chips := $(shell sed -n '/^chips:/,/^[^ \#]/s/^  *\([^ :\#]*\):.*/\1/p' params.yaml 2>/dev/null)
$(if $(chips),,$(error params.yaml: no chips in it; see git diff params.yaml))
# The chips that begin as the one asked for does, for as many letters as any of them.
near = $(shell printf '%s\n' $(chips) | awk -v asked=$(call quote,$(CHIP)) 'BEGIN { asked = tolower(asked); \
  gsub("ascend| ", "", asked) } { names[NR] = $$1 } END { for (n = length(asked); n > 1 && !found; n--) \
  for (i = 1; i <= NR; i++) { at = index(tolower(names[i]), substr(asked, 1, n)); if (at == 1 || at && n == length(asked)) found = found names[i] " " }; \
  print found }')
$(if $(and $(filter 1,$(words $(BS))),$(filter $(sizes),$(BS))),,$(error BS=$(BS): not a batch size; give a whole number \
  from 1 to 64))
$(if $(or $(word 2,$(SOURCE)),$(filter-out cifar10 sample,$(SOURCE))),$(error SOURCE=$(SOURCE): no such source; give \
  cifar10 or sample))
$(if $(DEVICE),$(if $(and $(filter 1,$(words $(DEVICE))),$(shell printf %s $(call quote,$(DEVICE)) | grep -Ex '[0-9]{1,3}(,[0-9]{1,3})*')),,$(error \
  DEVICE=$(strip $(DEVICE)): no device number; give one, or several as 0,1)))
$(if $(filter-out 0 1,$(LAYERS)),$(error LAYERS=$(LAYERS): give 1, or leave it out))
$(if $(OM),$(if $(ONNX)$(filter %-all best,$(goals)),$(error OM: one ready model, for one BS; give it without ONNX, -all and best)))
$(foreach v,ARCHIVE WEIGHTS ONNX OM,$(if $($v),$(if $(shell test -e $(call quote,$($v)) || echo x),$(error \
  $v=$($v): no such file or folder; check the path))))
dry := $(findstring n,$(flags))$(findstring q,$(flags))
$(if $(and $(dry),$(environment),$(shell cmp requirements.txt $(environment) 2>&1)),$(error \
  .venv is missing or its pins changed, and -n and -q install nothing; run make setup first))
# The chips of files that are asked for by name.
named := $(filter $(chips),$(foreach g,$(patsubst $(R)results/%,%,$(goals:$(R)models/om/%=$(R)results/%)),\
  $(firstword $(subst /, ,$g))))
ifneq ($(CHIP),)
else ifneq ($(named),)
override CHIP := $(firstword $(named))
else ifeq ($(filter-out $(bare) bin onnx optimized report bench upstream test check,$(goals)),)
override CHIP := cpu
else
# What npu-smi shows is asked once and remembered; where there is no npu-smi, no Python is started for it.
note := $(M)/chip-$(shell uname -n)
override CHIP := $(or $(filter $(chips),$(shell cat $(note) 2>/dev/null)),$(shell if PATH=$$PATH:/usr/local/sbin:/usr/local/bin command -v npu-smi \
  >/dev/null; then python3 scripts/find_chip.py --chips $(chips) --note $(note); else echo cpu; fi))
$(if $(CHIP),,$(error CHIP: not found; do as the line above says))
endif
$(if $(filter-out $(CHIP),$(named)),$(error $(filter-out $(CHIP),$(named)): a file of another chip than CHIP=$(CHIP); \
  give that CHIP=))
$(if $(and $(filter 1,$(words $(CHIP))),$(filter $(chips),$(CHIP))),,$(error CHIP=$(CHIP): no such chip; \
  near: $(or $(strip $(near)),none); all: $(chips)))
endif
