"""Per engine a module <name>_compile and a module <name>_run; the only place that knows an engine.

<name>_compile: ENDING, the compiled file's ending; PACKAGES, whose versions its bytes depend on; NEEDS, options
that a chip's line has to give, and VALUES, those that an option may have; OPTIONS and LIMITS, which keys of params.yaml
join the options of its chips, and which are handed on beside them and shape no bytes; INT8, words of a chip's line that
ask for the quantized graph, beside which option `unquantized` is the path of the one before;
compile_model(model, batch_size, out, options, limits, log) -> what to record.
<name>_run: PACKAGES, and load or infer:
load(model, options) -> (run, what to record), where run takes float32 [batch, 3, 32, 32] and returns float32
[batch, 10], for an engine that runs in this process;
names(model) and tensors(model, images, names), where the engine can show what lies between input and output;
infer(model, record, bins, count, form, devices, limits, out) -> what to record, for one that is a program of its own.
<name>_perf, of such a one: PACKAGES and measure(args, record, count, batches, form) -> timing.Measured.
"""
