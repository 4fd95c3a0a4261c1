"""What other people's code takes and gives: a model without pickle and as ONNX, heads on arrays of one's own."""
