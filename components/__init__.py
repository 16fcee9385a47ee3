"""The user interface of SeeSay; may import gradio and pipelines, never torch or transformers."""
