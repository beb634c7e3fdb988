"""Per engine a module <name>_compile and a module <name>_run; the only place that knows an engine.

<name>_compile: ENDING, the compiled file's ending; PACKAGES, whose versions its bytes depend on;
compile_model(model, batch_size, out, options) -> what to record.
<name>_run: PACKAGES; load(model, options) -> (run, what to record), where run takes float32 [batch, 3, 32, 32] and
returns float32 [batch, 10].
"""
