// Keys of the review page: from judgement to judgement, into the reason, to the filters. Everything works without them too: the page is plain forms and links.

const $ = (id) => document.getElementById(id);
const cards = [...document.querySelectorAll(".judged")];
const typing = (target) => target.matches("textarea, select, input:not([type=checkbox])");
const current = () => document.activeElement?.closest(".judged");

/** Go some judgements on; without a current one to the first, or the last. */
function step(by) {
  const at = cards.indexOf(current());
  const next = at < 0 ? (by > 0 ? 0 : cards.length - 1) : Math.min(cards.length - 1, Math.max(0, at + by));
  cards[next]?.focus();
}

function act(key) {
  if (key === "j") step(1);
  else if (key === "k") step(-1);
  else if (key === "x") (current() ?? cards[0])?.querySelector(".reason")?.focus();
  else if (key === "b") (current() ?? cards[0])?.querySelector(".put-back")?.focus();
  else if (key === "o") document.querySelector("a[rel=next]")?.click();
  else if (key === "n") document.querySelector("a[rel=prev]")?.click();
  else if (key === "f") $("first-filter").focus();
  else if (key === "?") $("keys-dialog").showModal();
  else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
  if (typing(event.target)) {
    if (event.key !== "Escape") return;
    if (event.target.matches(".reason")) current().focus();
    else event.target.blur();
  } else if (act(event.key.toLowerCase())) event.preventDefault();
});
$("show-keys").onclick = () => $("keys-dialog").showModal();
// After a change the address names its judgement: go on from there.
if (location.hash) $(decodeURIComponent(location.hash.slice(1)))?.focus();
