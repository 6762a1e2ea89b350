"""Optimizers beside AdamW, and their combination by the roles of parameters.

All have the interface that the training loop expects (`latticebench.training.loop.Optimizer`). None draws from the
global random state, and an update is a function of gradients and state: processes that hold equal gradients, as
averaged ones are, hold equal parameters after it.
"""
