"""Arguments that a raw request leaves out at the end: the defaults that the endpoint tells."""

import inspect
from typing import Any


def with_defaults(event: Any, inputs: list[Any]) -> list[Any]:
    """Return the inputs of a public endpoint with the defaults of what is left out at the end.

    The Python client fills them in by itself; what posts a bare list does not, and would stop
    working whenever an endpoint gains a parameter. Where a required argument is missing the
    inputs stay as they are, and are refused.

    Args:
        event: Gradio's block function.
        inputs: as they were sent, in order.
    """
    if getattr(event, "api_visibility", "") != "public" or len(inputs) >= len(event.inputs):
        return inputs
    left_out = list(inspect.signature(event.fn).parameters.values())[len(inputs) :]
    if any(one.default is inspect.Parameter.empty for one in left_out):
        return inputs
    return [*inputs, *(one.default for one in left_out)]
