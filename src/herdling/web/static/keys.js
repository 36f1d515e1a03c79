// Keys and clicks: everything that can be done can be done without a mouse. Letters and digits act while no text is being typed.
import { guidelines } from "./view.js";

const $ = (id) => document.getElementById(id);
const LABELS = { a: "chosen safe", s: "both safe", d: "both unsafe" };
const typing = (target) => target.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");

/** Connect the page to what it can do. */
export function listen(can) {
  document.addEventListener("keydown", (event) => {
    const open = document.querySelector("dialog[open]");
    if (open) return inDialog(event, open, can);
    if (event.isComposing || event.altKey) return;
    if (event.key === "Escape") return leave(event);
    if (event.key === "Enter") return enter(event, can);
    if (event.ctrlKey || event.metaKey || typing(event.target)) return;
    if (act(event.key.toLowerCase(), can)) event.preventDefault();
  });
  clicks(can);
  $("skip-confirm").addEventListener("click", () => confirmSkip(can));
}

/** Do what a single key stands for; say whether it stood for anything. */
function act(key, can) {
  const now = can.state();
  if (key === "g") guidelines($("guidelines").hidden);
  else if (key === "?") $("keys-dialog").showModal();
  else if (key === "u") can.undo();
  else if (key === "x" && now.held) askSkip();
  else if (key === "c" && now.composing) $("prompt").focus();
  else if (key === "e" && now.judging && $("editing")?.hidden === false) $("edit").focus();
  else if (now.judging && /^[1-8]$/.test(key)) can.choose(Number(key));
  else if (now.judging && now.safety && key in LABELS) can.label(LABELS[key]);
  else return false;
  return true;
}

function enter(event, can) {
  const { judging, saved, idle } = can.state();
  const strong = event.ctrlKey || event.metaKey;
  if (event.target.matches("button, a, summary") && !strong) return; // these do their own
  if (typing(event.target) && !strong) return;
  event.preventDefault();
  if (event.target === $("prompt")) can.send();
  else if (judging) can.submit();
  else if (saved || idle) can.next();
}

/** Esc: out of a text, then out of the guidelines. */
function leave(event) {
  if (typing(event.target)) {
    event.target.blur();
    $("main").focus({ preventScroll: true });
  } else if (!$("guidelines").hidden) guidelines(false);
}

function clicks(can) {
  $("judgement").addEventListener("submit", (event) => { event.preventDefault(); can.submit(); });
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); can.send(); });
  $("prompt").addEventListener("input", (event) => can.typed(event.target.value));
  for (const input of document.querySelectorAll("input[name=choice]")) input.addEventListener("change", () => can.choose(Number(input.value)));
  for (const input of document.querySelectorAll("input[name=safety]")) input.addEventListener("change", () => can.label(input.value));
  $("edit")?.addEventListener("input", (event) => can.edited(event.target.value));
  $("edit-safe")?.addEventListener("change", (event) => can.editSafe(event.target.checked));
  $("restore")?.addEventListener("click", can.restore);
  $("next").onclick = can.next;
  $("look").onclick = can.next;
  $("undo").onclick = $("undo-saved").onclick = () => can.undo();
  $("skip").onclick = $("skip-sampling").onclick = askSkip;
  $("show-guidelines").onclick = () => guidelines($("guidelines").hidden);
  $("hide-guidelines").onclick = () => guidelines(false);
  $("show-keys").onclick = () => $("keys-dialog").showModal();
  $("skip-cancel").onclick = () => $("skip-dialog").close();
}

function askSkip() {
  $("skip-form").reset();
  $("skip-dialog").showModal();
}

function inDialog(event, dialog, can) {
  if (dialog !== $("skip-dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const reasons = dialog.querySelectorAll("input[name=reason]");
  const number = Number(event.key);
  if (event.key === "Enter" && event.target !== $("skip-cancel")) {
    event.preventDefault();
    confirmSkip(can);
  } else if (!typing(event.target) && number >= 1 && number <= reasons.length) {
    event.preventDefault();
    reasons[number - 1].checked = true;
    reasons[number - 1].focus();
  }
}

function confirmSkip(can) {
  const reason = $("skip-other").value.trim() || document.querySelector("input[name=reason]:checked")?.value;
  if (!reason) return $("skip-other").focus();
  $("skip-dialog").close();
  can.skip(reason);
}
