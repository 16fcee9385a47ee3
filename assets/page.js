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

// Names of the examples for those who read Chinese; others go by the names of their files.
const CHINESE_NAMES = {
  "a": "倒计时", "bus": "公交车", "cheetah1": "猎豹", "lion": "狮子", "tower": "塔", "world": "地球",
  "circle and triangle": "圆形和三角形", "circle moves left": "圆形向左移动",
  "four objects": "四个物体", "heart grows": "心形变大", "moon and star": "月亮和星形",
  "never seen pair": "训练中从未见过的组合", "paint freehand heart": "手绘的心形",
  "paint freehand ring": "手绘的圆环", "paint tool triangle": "画图工具画的三角形",
  "red circle": "红色圆形", "ring and moon": "圆环和月亮", "star then square": "先星形后正方形",
  "three hearts": "三颗心形", "three objects": "三个物体", "three shapes": "三个形状",
  "triangle appears": "三角形出现", "two objects": "两个物体", "yellow star": "黄色星形",
};

// What Gradio gives no name to: examples that are pictures or videos go by their file's name.
function nameExamples() {
  const chinese = document.documentElement.lang.startsWith("zh");
  for (const example of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
    const source = example.querySelector("img, video")?.src;
    if (!source) continue;
    const file = decodeURIComponent(source.split("/").pop()).replace(/\.\w+$/, "");
    const name = file.replaceAll("-", " ");
    const said = chinese ? `示例：${CHINESE_NAMES[name] ?? name}` : `Example: ${name}`;
    example.setAttribute("aria-label", said);
  }
}

// Screen readers are told an answer when it is there: the best row of a table.
function announce(text) {
  const announcer = document.getElementById("announcer");
  const said = text.replace(/\s+/g, " ").trim();
  if (announcer && said && announcer.textContent !== said) announcer.textContent = said;
}

function announceNew(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return;
  const found = (selector) => (node.matches(selector) ? node : node.querySelector(selector));
  const figures = found(".figures");
  if (figures) announce(figures.innerText);
  const best = found(".scores:not(.batch, .confusion, .classes)")?.querySelector("tr:has(td)");
  if (best) announce([...best.cells].map((cell) => cell.innerText).join(", "));
}

// The end of a batch comes by a change of its line's class, not always by a new line.
let endOfBatch = "";
function announceEndOfBatch() {
  const text = document.querySelector(".batch-progress:not(.running)")?.innerText ?? "";
  if (text && text !== endOfBatch) announce(text);
  endOfBatch = text;
}

// A text that streams is told once it is whole: then its box is no longer marked as coming.
function announceWhole(tracker, before) {
  if (!/generating/.test(before) || tracker.classList.contains("generating")) return;
  const text = tracker.closest(".block")?.querySelector("textarea:disabled");
  if (text) announce(text.value);
}

// On a narrow page the answer stands below the button: it is scrolled into view as it grows, until
// the visitor scrolls.
let awaited = null;
document.addEventListener("click", (event) => {
  if (!event.target.closest?.("button.go, button.gallery-item")) return;
  awaited = [...document.querySelectorAll(".answer")].find((answer) => answer.offsetParent);
});
for (const kind of ["wheel", "touchmove", "keydown"])
  document.addEventListener(kind, () => (awaited = null), { passive: true });

function showAwaited() {
  const { top } = awaited.getBoundingClientRect();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (matchMedia("(max-width: 640px)").matches && (top < 0 || top > innerHeight / 4))
    awaited.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
}

function watch() {
  const announcer = document.createElement("div");
  announcer.id = "announcer";
  announcer.setAttribute("role", "status");
  document.body.append(announcer);
  nameExamples();
  const watcher = new MutationObserver((changes) => {
    nameExamples();
    announceEndOfBatch();
    for (const change of changes) {
      if (awaited?.contains(change.target)) showAwaited();
      change.addedNodes.forEach(announceNew);
      if (change.type === "attributes") announceWhole(change.target, change.oldValue ?? "");
    }
  });
  watcher.observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["class"],
    attributeOldValue: true,
  });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
else watch();

// Browsers tell the type of a file by its name, and know neither .MOV on Linux nor .ts, .jp2 and
// others anywhere; Gradio refuses a file without a type. Give each file that the app reads its type.
const suffixes = {
  image: "jpg jpeg jpe jfif mpo png apng webp gif bmp dib tif tiff ppm pgm pbm pnm avif ico jp2 j2k jpx jpf",
  video: "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts wmv flv 3gp ogv",
};
const kinds = new Map(
  Object.entries(suffixes).flatMap(([kind, names]) => names.split(" ").map((name) => [name, kind])),
);

function typed(files) {
  const transfer = new DataTransfer();
  let changed = false;
  for (const file of files) {
    const suffix = file.name.split(".").pop().toLowerCase();
    const kind = kinds.get(suffix);
    const lacks = kind && !/^(image|video)\//.test(file.type);
    changed ||= lacks;
    const options = { type: `${kind}/${suffix}`, lastModified: file.lastModified };
    transfer.items.add(lacks ? new File([file], file.name, options) : file);
  }
  return changed ? transfer : null;
}

function isUpload(input) {
  return input instanceof HTMLInputElement && input.type === "file";
}

document.addEventListener(
  "change",
  ({ target }) => {
    const transfer = isUpload(target) && typed(target.files);
    if (transfer) target.files = transfer.files;
  },
  true,
);
document.addEventListener(
  "drop",
  (event) => {
    const transfer = event.dataTransfer?.files.length && typed(event.dataTransfer.files);
    if (transfer) Object.defineProperty(event, "dataTransfer", { value: transfer });
  },
  true,
);

// The dialog of the system shows the files that have no type too.
document.addEventListener(
  "click",
  ({ target }) => {
    if (!isUpload(target) || target.accept.includes(",.")) return;
    for (const [kind, names] of Object.entries(suffixes))
      if (target.accept.includes(`${kind}/`))
        target.accept += names.split(" ").map((name) => `,.${name}`).join("");
  },
  true,
);
