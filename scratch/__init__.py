"""A multilayer perceptron in NumPy alone: every formula of a neural network in the open.

Read in this order: layers, losses, mlp, gradcheck, optim, deform, train, recipes, weights.
"""
