# make bench: this project against what a user would do instead. Included by the Makefile before R is set.

ifeq ($(goals),bench)
ifeq ($(wildcard $(ROOT)/data/archive.tar.gz $(ROOT)/models/checkpoint.pkl)$(SOURCE)$(ARCHIVE)$(WEIGHTS),)
$(if $(filter-out . ./ demo demo/,$(ROOT)),$(error bench: ROOT=$(ROOT) holds no inputs; make accuracy there first, or \
  leave ROOT out to race on the sample))
override SOURCE := sample
override ROOT := demo
endif
$(if $(ONNX)$(OM),$(error bench: it races the checkpoint's own graph; leave ONNX and OM out))
endif
bench: ## this project against what a user would do instead, in turns; the sample where there are no inputs
	$(Q)$(python) scripts/bench.py --make $(make) --python=$(call quote,$(PYTHON)) --root $(or $(R),.) \
	  --inputs SOURCE=$(SOURCE) ARCHIVE=$(call quote,$(ARCHIVE)) WEIGHTS=$(call quote,$(WEIGHTS)) \
	  --chips $(foreach c,$(CHIPS),$c=$(CHIP.$c.engine)) --int8 $(foreach c,$(CHIPS),$(if $(CHIP.$c.int8),$c)) \
	  --sizes $(P.batch_sizes) --batch-size $(BS) --rounds $(P.bench.rounds) --seconds $(P.bench.seconds) \
	  --images $(P.bench.images) --contenders $(P.bench.contenders) --loss $(P.bench.loss) --loss-int8 $(P.int8.loss) \
	  --out $(R)results/bench.json
