"""The public endpoints that compare videos with texts; see `components.api.publish`."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from components.render import video as fmt
from components.server.uploads import Uploads
from components.widgets.common import worked_off
from components.widgets.model_lease import lease
from pipelines.core.text import split_lines
from pipelines.models.catalogue import Task
from pipelines.models.viclip.windows import SearchOptions
from pipelines.serving.store import PipelineStore
from pipelines.viclip.framing import check_fit

TASK: Task = "video-text"


class VideoEndpoints:
    """What is published of videos and texts."""

    def __init__(self, store: PipelineStore) -> None:
        """Remember what lends the models, and guard what is sent."""
        self._store = store
        self._uploads = Uploads(store.settings)

    def match_video(
        self,
        video: gr.FileData,
        texts: str,
        model: str = "",
        start_s: float = 0.0,
        end_s: float = 0.0,
        fit: str = "",
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Say which text fits a video, or a part of it.

        Args:
            video: a video file.
            texts: one per line.
            model: key of a video-text model (see /list_models); "" for the default.
            start_s: start of the part, in seconds.
            end_s: its end; 0 for the end of the video.
            fit: how frames become the square that the model reads: "squash" gives up their
                proportions, as models are trained, "letterbox" adds bars, "centre-crop" cuts off
                what is outside the middle square; "" for the model's own.

        Returns:
            label: the best text, confidences of all, and the times of the frames that were seen.
            scores: for each text its probability, cosine and verdict ("match", "unsure" or
                "no match"; other texts do not change it), best first.
        """
        path = self._uploads.path(video, "video")
        lines, repeated = split_lines(texts, "texts")
        check_fit(fit)
        with lease(self._store, model, TASK) as lent:
            yield from lent.wait(({}, []))
            viclip = lent.pipeline
            for _ in worked_off(viclip.prepare(lines)):
                yield {}, []
            for match in viclip.stream_match(path, lines, start_s=start_s, end_s=end_s, fit=fit):
                if match is None:
                    yield {}, []
        yield fmt.as_label(match, repeated), fmt.as_text_scores(match)

    def find_moments(
        self,
        video: gr.FileData,
        query: str,
        model: str = "",
        window_s: float = 4.0,
        stride_s: float = 1.0,
        top_k: int = 5,
        fit: str = "",
    ) -> Iterator[list[dict[str, Any]]]:
        """Find where in a video a text happens.

        Args:
            video: a video file, of any length.
            query: what should happen.
            model: key of a video-text model; "" for the default.
            window_s: length of the parts that are compared with the query, in seconds.
            stride_s: from the start of one part to that of the next, in seconds.
            top_k: most moments.
            fit: how frames become a square; see /match_video.

        Returns:
            Moments best first, none overlapping another: start_s, end_s, score (0 to 1, against
            neutral texts), cosine, verdict, note.
        """
        path = self._uploads.path(video, "video")
        options = SearchOptions(window_s, stride_s, top_k, fit)
        text = one_query(query)
        with lease(self._store, model, TASK) as lent:
            yield from lent.wait([])
            viclip = lent.pipeline
            for _ in worked_off(viclip.prepare([text])):
                yield []
            for _ in worked_off(viclip.search([path], options)):
                yield []
            yield fmt.as_moments(viclip.moments([path], text, options))


def endpoints(store: PipelineStore) -> list[Callable[..., Any]]:
    """Return the functions to publish."""
    own = VideoEndpoints(store)
    return [own.match_video, own.find_moments]


def one_query(query: Any) -> str:
    """Return a query as one text.

    Raises:
        InputError: it is empty, or no text.
    """
    lines, _ = split_lines(query, "query", distinct=False)
    return " ".join(lines)
