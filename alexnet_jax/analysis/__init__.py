"""What is done with a trained network.

net         a network that sees images: `alexnet_jax.load`, `alexnet_jax.network`
views       one view of an image, or ten; streams, many images through a network
guesses     the best classes of files; submission, of a split without labels
prediction  class probabilities of every example of a split, and their errors
ensembles   several networks together: equal weights, and searched ones
report      all about an evaluation: confusion, calibration, the worst mistakes
export      what prediction needs of a workdir, as a folder of its own
panels      images with guesses beside them; drawing, what pictures share
curves      what runs logged, as a picture
"""
