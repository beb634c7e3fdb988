# How archive, checkpoint and upstream's source come into ROOT: made, imported or fetched. Included by the Makefile.
imports := $(call script,import_input checkpoint sample preprocess official_formats)
fetch = --mirror=$(call quote,$(MIRROR)) --timeout $(P.download.timeout) --tries $(P.download.tries)
fetches := $(call script,fetch) $(call key,download.timeout download.tries)
ifeq ($(I.archive.by),sample)
$(archive): $(call script,sample official_formats) \
  $(call key,sample.seed sample.train_images sample.test_images)
	$(call run,SAMPLE,sample) --archive $@ --seed $(P.sample.seed) --train-images $(P.sample.train_images) \
	  --test-images $(P.sample.test_images)
else ifneq ($(ARCHIVE),)
$(archive): $(M)/given/archive $(imports)
	$(call run,ARCHIVE,import_input) --what archive --given=$(call quote,$(ARCHIVE)) --stat=$(archive_stat) --note $< --out $@
else
$(archive): $(fetches) $(call key,cifar10.urls cifar10.bytes cifar10.sha256)
	$(call run,FETCH,fetch) --urls $(P.cifar10.urls) --bytes $(P.cifar10.bytes) --sha256 $(P.cifar10.sha256) $(fetch) \
	  --variable ARCHIVE --out $@
endif
ifeq ($(I.weights.by),sample)
$(weights): $(call script,sample official_formats)
	$(call run,SAMPLE,sample) --checkpoint $@
else ifneq ($(WEIGHTS),)
$(weights): $(M)/given/weights $(imports)
	$(call run,WEIGHTS,import_input) --what weights --given=$(call quote,$(WEIGHTS)) --stat=$(weights_stat) --note $< --out $@
else
$(weights): $(fetches) $(call key,upstream.urls upstream.model_92_sgd)
	$(call run,FETCH,fetch) --urls $(addsuffix /model_92_sgd.pkl,$(P.upstream.urls)) \
	  --git-blob $(P.upstream.model_92_sgd) $(fetch) --variable WEIGHTS --out $@
endif
$(call each,$(upstream),$(sources)): $(upstream): $(fetches) $(call key,upstream.urls upstream.%)
	$(call run,FETCH,fetch) --urls $(addsuffix /model/$*.py,$(P.upstream.urls)) --git-blob $(P.upstream.$*) $(fetch) --out $@
upstream: $(call each,$(upstream),$(sources)) $(if $(WEIGHTS),$(weights),$(wildcard $(weights)))
upstream: ## upstream's own source, patched: does our network give the same logits?
	$(Q)$(python) scripts/check_upstream.py --sources $(filter %.py,$^) --git-blobs $(foreach s,$(sources),$(P.upstream.$s)) \
	  --patches $(sort $(wildcard patches/*.patch)) --checkpoint $(filter %.pkl,$^)
