"""Weights in the formats of other projects, in and out.

weights      what travels: the network's table, its parameters, classes, preprocessing
registry     the formats by name: which module reads and writes a file
networks     the shipped networks by name, and which of them a file holds
description  all that a file says besides the arrays, as JSON
run_config   what of a run's config is among it
inspection   what a file holds, as text
companions   the same of a mean, a definition and a program, which hold no weights
layouts      kernels and flattened maps in the order of channels-first frameworks

One module for each format:

safetensors  the interchange format, in which nothing is lost
huggingface  the same as a folder with a config and a model card
caffe        .caffemodel, .binaryproto, .prototxt; caffe_net says what their layers are
             in our terms, caffe_schema which fields they have
matconvnet   Caffe's nets as .mat
caffe_tensorflow  Caffe's nets as .npy
torchvision  the state dict of torchvision's alexnet; torch_files reads .pth
pytorch      every network with a module of its own, alexnet_torch; torch_layout has the
             order of its arrays
onnx         every network as a graph; onnx_graph writes it, onnx_chain reads one
jax_export   prediction as StableHLO

Readers that trust nothing: protobuf, prototxt, matlab, pickles and
numpy_pickles.
"""
