"""Image-text models with two towers: CLIP, SigLIP 2 and Chinese-CLIP."""
