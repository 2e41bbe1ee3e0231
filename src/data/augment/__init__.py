"""Transforms of images and labels, in training and evaluation."""
