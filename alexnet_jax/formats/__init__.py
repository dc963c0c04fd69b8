"""Weights in the formats of other projects, in and out.

weights      what travels: the network's table, its parameters, classes, preprocessing
registry     the formats by name: which module reads and writes a file
networks     the shipped networks by name, and which of them a file holds
description  all that a file says besides the arrays, as JSON
inspection   what a file holds, as text
layouts      kernels and flattened maps in the order of channels-first frameworks

One module for each format:

safetensors  the interchange format, in which nothing is lost
"""
