"""Models that run elsewhere: any server that speaks OpenAI's chat completions."""
