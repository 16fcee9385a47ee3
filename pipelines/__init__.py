"""Model code of SeeSay; never imports gradio or components."""
