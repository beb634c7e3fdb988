# How the optimized graph becomes int8, for the chips whose line asks for it. Included by the Makefile.

int8 := $(R)models/int8/3d_attention_net.onnx
graph := $(if $(CHIP.$(CHIP).int8),$(int8) $(optimized),$(optimized))
calibration := $(R)data/calibration.bin
$(calibration): $(archive) $(call script,calibration preprocess) $(call key,int8.images)
	$(call run,TRAINING,calibration) --archive $< --images $(P.int8.images) --out $@
$(int8): $(optimized) $(calibration) $(call script,quantize calibration preprocess engines/threads) $(pins) $(call key,int8.loss)
	$(call run,INT8,quantize) --onnx $< --calibration $(calibration) --loss $(P.int8.loss) --out $@
