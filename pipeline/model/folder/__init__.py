"""A model as a folder without pickle: `model.json`, `weights.safetensors`, and LightGBM's own texts under `trees/`.

docs/EXCHANGE.md says what is in it. `parts` takes a model dict apart and puts it together, `write` and `read` are about
the files.
"""
