"""Accuracy of image-text models on labelled images, and training of a linear probe."""
