"""Trained models as files for others.

=============  ========================================================  ==============
`to_folder`    weights (safetensors), config and card: the lasting       `stjax.load`
               format, laid out as on the Hugging Face Hub
`to_program`   a compiled-anywhere function without its Python code:     JAX and NumPy
               one .npz for CPU, CUDA and TPU
`to_torch`     weights under the key names of the PyTorch original       the original
`to_onnx`      the function as an ONNX graph                             ONNX Runtime
`push`         a folder to the Hugging Face Hub                          ``hf://``
=============  ========================================================  ==============

Each takes what `stjax.load` returns, or what `stjax.load` takes.
"""

from stjax.export.folder import to_folder as to_folder
from stjax.export.graph import to_onnx as to_onnx
from stjax.export.originals import to_torch as to_torch
from stjax.export.program import to_program as to_program
from stjax.hub import push as push

__all__ = ["push", "to_folder", "to_onnx", "to_program", "to_torch"]
