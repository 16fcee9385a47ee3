// A link to #t=12.5 moves the player of its tab to the 12.5th second.
document.addEventListener(
  "click",
  (event) => {
    const link = event.target.closest?.('a[href^="#t="]');
    if (!link) return;
    event.preventDefault();
    event.stopPropagation();
    const place = link.closest('[role="tabpanel"]') ?? document;
    const player = place.querySelector("video");
    if (!player) return;
    player.currentTime = Number(link.getAttribute("href").slice(3));
    player.scrollIntoView({ block: "nearest", behavior: "smooth" });
  },
  true,
);

// Screen readers and fonts go by the language of the page, which the server chooses by the browser's.
if (/^zh\b/i.test(navigator.language)) document.documentElement.lang = "zh-CN";
