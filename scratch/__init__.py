"""A multilayer perceptron in NumPy only, with every formula of a neural network written out.

Read in this order: layers, losses, mlp, gradcheck, optim, deform, train, recipes, weights.
"""
