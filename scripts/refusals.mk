# What a tired person types: refused in one line, before anything is installed or written. Included by the Makefile.

unknown := $(filter-out $(bare) $(stages) $(addprefix $(R),data/% models/% results/% .make/%),$(goals:./%=%))
odd := $(word 2,$(ROOT))$(filter -%,$(ROOT))$(if $(filter-out .,$(ROOT)),$(shell printf %s $(call quote,$(ROOT)) | \
  LC_ALL=C tr -d 'A-Za-z0-9._/+\200-\377-'))
typed := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
strange := $(filter-out $(variables) DEVICE ATC AIS_BENCH LAYERS MAKE% -*-% .%,$(typed))
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
