# An .onnx or .om of the user's own: imported when given, and kept when not. Included by the Makefile.
records := $(shell grep -ls '"origin": "given"' $(R)models/onnx/*.json $(R)models/om/$(CHIP)/bs*.json)
own_onnx := $(and $(filter $(onnx:.onnx=.json),$(records)),$(wildcard $(onnx)))
own_sizes := $(foreach n,$(patsubst $(R)models/om/$(CHIP)/bs%.json,%,$(records)),$(if $(wildcard $(subst %,$n,$(om))),$n))
changed = $(if $(filter-out $(call held,$1,$2),$(call stat,$1)),FORCE)
$(if $(WEIGHTS),$(if $(ONNX),,$(if $(own_onnx),$(error WEIGHTS: your own $(onnx) stands in for the export; \
  remove it first))))
$(if $(ONNX),$(if $(filter $(BS),$(own_sizes)),$(error ONNX: your own $(subst %,$(BS),$(om)) stands in for what is \
  compiled of it; remove it first)))
