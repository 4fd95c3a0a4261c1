"""ONNX: the head from the arrays of a model, the network from PyTorch, both held against ours before they are kept."""
