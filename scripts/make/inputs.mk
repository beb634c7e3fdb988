# Rules for the archive, the checkpoint and the upstream sources: generated as the sample, imported, or downloaded.
# Included by the Makefile. input.archive and input.weights are `sample` if the sample is used.

upstream_sources := basic_layers attention_module residual_attention_network
upstream := $(root)models/upstream/%.py
# Without this, make would delete them as intermediate files after an interrupted download.
.PRECIOUS: $(archive) $(weights) $(call each,$(upstream),$(upstream_sources))
# A file without a record was put there by hand, or its record is lost: fetch.py or make_sample.py checks it, whatever
# its time.
by_hand = $(if $(wildcard $1),$(if $(wildcard $2),,FORCE))
fetch = $(call run,FETCH,fetch) --mirror=$(call quote,$(MIRROR))

ifeq ($(input.archive),sample)
$(archive): $(uses.make_sample.archive) $(call by_hand,$(archive),$(root)data/archive.json)
	$(call run,SAMPLE,make_sample) --archive $@ $(flags.make_sample.archive)
else ifneq ($(ARCHIVE),)
$(archive): $(state)/given/archive $(uses.import_input)
	$(call run,ARCHIVE,import_input) --what archive --given=$(call quote,$(ARCHIVE)) --stat=$(archive_stat) \
	  --note $< --out $@
else
$(archive): $(uses.fetch.archive) $(call by_hand,$(archive),$(root)data/archive.json)
	$(fetch) --what archive $(flags.fetch.archive) --variable ARCHIVE --out $@
endif

ifeq ($(input.weights),sample)
$(weights): $(uses.make_sample.checkpoint) $(call by_hand,$(weights),$(root)models/checkpoint.json)
	$(call run,SAMPLE,make_sample) --checkpoint $@ $(flags.make_sample.checkpoint)
else ifneq ($(WEIGHTS),)
$(weights): $(state)/given/weights $(uses.import_input)
	$(call run,WEIGHTS,import_input) --what weights --given=$(call quote,$(WEIGHTS)) --stat=$(weights_stat) \
	  --note $< --out $@
else
$(weights): $(uses.fetch.checkpoint) $(call by_hand,$(weights),$(root)models/checkpoint.json)
	$(fetch) --what checkpoint --folders $(flags.fetch.checkpoint) --variable WEIGHTS --out $@
endif

$(call each,$(upstream),$(upstream_sources)): $(upstream): $(uses.fetch.source)
	$(fetch) --what $* --folders $(flags.fetch.source) --out $@
