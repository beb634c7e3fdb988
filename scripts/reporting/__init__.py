"""Results and their pages: records, provenance, accuracy, agreement, the gate, timing, tables, curves, sections."""
