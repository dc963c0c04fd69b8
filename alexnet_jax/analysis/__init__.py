"""What is done with a trained network.

net         a network that sees images: `alexnet_jax.load`, `alexnet_jax.network`
prediction  class probabilities of every example of a split, and their errors
ensembles   several networks together: equal weights, and searched ones
curves      what runs logged, as a picture
"""
