"""Image -> text over stock transformers classes: captions, answers, conversations."""
