"""The stream of answers from the server to a page."""

from playwright.sync_api import Browser, expect

from tests.browser.browsing import click_example, open_page, rows
from tests.support.app_process import RunningApp

#: Delay the message by which the server closes the stream of answers, and count such messages.
LATE_CLOSING = """
const network = window.fetch;
window.closings = 0;
window.fetch = async (input, init) => {
    const answer = await network(input, init);
    if (!String(input.url ?? input).includes("/queue/data?")) return answer;
    const late = new TransformStream({
        async transform(chunk, controller) {
            if (new TextDecoder().decode(chunk).includes("close_stream")) {
                window.closings += 1;
                await new Promise((done) => setTimeout(done, 3000));
            }
            controller.enqueue(chunk);
        },
    });
    return new Response(answer.body.pipeThrough(late), answer);
};
"""


def test_a_press_while_the_stream_closes_is_answered(
    browser: Browser, running_app: RunningApp
) -> None:
    """The server has closed the stream of answers, and the page does not know it yet."""
    page = open_page(
        browser, running_app.url, prepare=lambda page: page.add_init_script(LATE_CLOSING)
    )
    page.wait_for_function("window.closings > 0")
    click_example(page, 0)
    expect(rows(page).first).to_be_visible()
    page.context.close()
