"""What is done with a trained network.

prediction  class probabilities of every example of a split, and their errors
ensembles   several networks together: equal weights, and searched ones
curves      what runs logged, as a picture
"""
