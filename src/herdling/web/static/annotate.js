// The annotator's work: take or write a prompt, see two answers, judge, edit, go on, skip, undo. The server holds the truth; this browser holds what was typed
// until the server has it.
import { Door, Refused, Shelf, newKey } from "./keep.js";
import * as view from "./view.js";
import { listen } from "./keys.js";

const $ = (id) => document.getElementById(id);
const { campaign, user, csrf, kind, style, ownPrompts, guidelinesVersion } = $("page").dataset;
const shelf = new Shelf(campaign, user);
const door = new Door(campaign, csrf, (waiting) => view.status(waiting ? "No connection to the server. What you did is kept here and sent again." : ""));
const SAVE_AFTER = 700, HEARTBEAT_SECONDS = 20, LOOK_SECONDS = 60;

let task = null; // what is held: {task, lease, expires, turns, turn}
let texts = null; // the two answers, once they are shown
let draft = {}; // choice, safety, edits, edit_safe, seconds
let follow = shelf.get("follow") ?? null; // a judged dialog that may go on: {task, turns, text, key}
let lines = [], count = 0, busy = false, dirty = false, saver = 0, seen = 0;

const side = () => (draft.choice ? (draft.choice <= 4 ? "left" : "right") : null);
const forget = () => { task = texts = null; draft = {}; dirty = false; clearTimeout(saver); };

/** Do one thing at a time; say what was refused. */
async function doing(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refused(error);
  } finally {
    busy = false;
  }
}

function refused(error) {
  if (error.status === 401) view.alertWith(error.message, "Log in", () => location.assign("/login"));
  else if (error.status === 403) view.alertWith(error.message, "Reload", () => location.reload());
  else if (error.reason === "stale lease" && task) lost();
  else if (!$("sampling").hidden) view.alertWith(error.message, "Try again", () => { view.alertWith(); doing(task ? askAnswers : takeNext); });
  else view.alertWith(error.message, "All right", () => view.alertWith());
  if (!texts) view.sampling(task ? "There are no answers yet." : "Nothing has come yet.", false, Boolean(task));
}

function lost() {
  const wanted = task.task;
  view.alertWith("You no longer hold this task: it waited too long, or was opened elsewhere. What you typed is kept here.", "Take it again", () =>
    doing(async () => {
      const again = (await door.post("next")).task;
      view.alertWith();
      if (again?.task !== wanted) view.status("Somebody else has that task now. Here is another one.");
      await present(again);
    }),
  );
}

// ---- what comes next

async function present(next) {
  forget();
  view.alertWith();
  view.answers("", "");
  if (next) return open(next);
  view.turns([]);
  if (ownPrompts === "yes") compose();
  else {
    view.show("idle");
    $("look").focus();
  }
}

const takeNext = async () => {
  setFollow(null);
  view.show("sampling"); // at once: what is typed into a box that is about to go would be lost
  view.sampling("Looking for what comes next …", true, false);
  await present((await door.post("next")).task);
};

function compose() {
  view.show("composer");
  view.composer({ text: shelf.get("prompt")?.text ?? "", label: "Your prompt", note: "Two models answer it. What you type is kept if you leave." });
  $("prompt").focus();
}

async function open(next) {
  task = next;
  const kept = shelf.get("draft");
  draft = kept?.task === next.task ? kept.draft : adopt(next.draft);
  view.turns(next.turns);
  scrollTo({ top: 0 });
  await askAnswers();
}

/** Read the server's draft; after an undo it holds the judgement that was taken back. */
function adopt(saved) {
  const { edit, ...rest } = saved;
  return edit === undefined ? rest : { ...rest, edits: { [rest.choice <= 4 ? "left" : "right"]: edit } };
}

async function askAnswers() {
  view.show("sampling");
  view.sampling("Two models are answering …", true, true);
  texts = await door.post("answers", { task: task.task, lease: task.lease });
  view.answers(texts.left, texts.right);
  view.show("judging");
  seen = performance.now();
  draw();
  change({}); // the server learns that the answers were seen
  $("left").focus({ preventScroll: true });
}

// ---- judging

function draw() {
  view.chosen(draft.choice, draft.safety);
  $("missing").textContent = "";
  if (style !== "llama3") return;
  $("editing").hidden = !side();
  const text = side() ? draft.edits?.[side()] ?? texts[side()] : "";
  if ($("edit").value !== text) $("edit").value = text;
  if ($("edit-safe")) $("edit-safe").checked = draft.edit_safe ?? true;
}

function change(what) {
  draft = { ...draft, ...what, seen: true };
  dirty = true;
  shelf.put("draft", { task: task.task, draft });
  clearTimeout(saver);
  saver = setTimeout(saveDraft, SAVE_AFTER);
}

function tick() {
  const now = performance.now();
  if (texts && document.visibilityState === "visible") draft.seconds = (draft.seconds ?? 0) + (now - seen) / 1000;
  seen = now;
}

/** Save the draft if it changed, which holds the task too; else only hold it. */
async function saveDraft() {
  if (!task || shelf.get("pending")) return;
  tick();
  const held = task, wasDirty = dirty;
  dirty = false;
  try {
    const answer = await door.once(wasDirty ? "draft" : "heartbeat", { task: held.task, lease: held.lease, ...(wasDirty && { draft }) });
    if (task === held) task.expires = answer.expires;
  } catch (error) {
    dirty ||= wasDirty;
    if (task !== held || shelf.get("pending")) return; // judged meanwhile
    if (error instanceof Refused) refused(error);
    else view.status("No connection to the server. What you type is kept here and saved when it is back.");
  }
}

function missing() {
  if (!draft.choice) return "Choose with the keys 1 to 8 which answer is better.";
  if (kind === "safety" && !draft.safety) return "Say with A, S or D whether each answer is safe.";
  return "";
}

const submit = () =>
  doing(async () => {
    if (!texts) return;
    const fault = missing();
    if (fault) {
      $("missing").textContent = fault;
      (draft.choice ? document.querySelector("input[name=safety]") : document.querySelector("input[name=choice]")).focus();
      return;
    }
    tick();
    const body = { task: task.task, lease: task.lease, key: newKey(), choice: draft.choice, seconds: draft.seconds };
    if (kind === "safety") body.safety = draft.safety;
    const edit = draft.edits?.[side()];
    if (style === "llama3" && edit?.trim() && edit.trim() !== texts[side()].trim()) {
      body.edit = edit;
      if (kind === "safety") body.edit_safe = draft.edit_safe ?? true;
    }
    const said = { role: "assistant", text: body.edit ?? texts[side()] };
    shelf.put("pending", { body, turns: [...task.turns, said], prompt: task.turns.at(-1).text });
    await deliver();
  });

/** Send what waits to be sent, now or after a reload: the key makes it count once. */
async function deliver() {
  const { body, turns, prompt } = shelf.get("pending");
  let stored;
  try {
    stored = await door.post("judge", body);
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 401 || error.status === 403) throw error; // stays on the shelf until the door opens again
    shelf.put("pending", undefined);
    throw error;
  }
  shelf.put("pending", undefined);
  shelf.put("draft", undefined);
  forget();
  view.progress(++count);
  lines = [{ task: body.task, prompt: prompt.slice(0, 200), choice: body.choice, edited: "edit" in body, can_undo: true }, ...lines];
  view.history(lines, undo);
  setFollow(stored.can_proceed ? { task: body.task, turns, text: "" } : null);
  showSaved(body.choice);
}

function setFollow(value) {
  follow = value;
  shelf.put("follow", value ?? undefined);
}

function showSaved(choice) {
  view.alertWith();
  $("saved-note").textContent = (choice ? `You said: ${view.inWords(choice)}.` : "") + (follow ? " You may go on with the better answer, or take the next one." : "");
  view.show("saved", ...(follow ? ["composer"] : []));
  if (follow) {
    view.turns(follow.turns);
    view.composer({ text: follow.text, label: "Go on with this conversation", note: "Key C brings you here, Esc out again." });
  }
  $("saved-title").focus({ preventScroll: true });
}

// ---- prompts, skips, undo

const send = () =>
  doing(async () => {
    const text = $("prompt").value;
    if (!text.trim()) return view.status("Type a prompt first.");
    const kept = follow ?? shelf.get("prompt") ?? {};
    const key = kept.key && kept.text === text ? kept.key : newKey();
    keepPrompt(text, key);
    $("prompt").readOnly = true; // what is on its way is not to be changed here
    const sent = door.post("prompt", { text, key, ...(follow && { task: follow.task }) });
    const next = (await sent.finally(() => ($("prompt").readOnly = false))).task;
    if (follow) setFollow(null);
    else shelf.put("prompt", undefined);
    await present(next);
  });

function keepPrompt(text, key) {
  if (follow) setFollow({ ...follow, text, key });
  else shelf.put("prompt", { text, key });
}

const skip = (reason) =>
  doing(async () => {
    if (!task) return;
    await door.post("skip", { task: task.task, lease: task.lease, reason, key: newKey() });
    shelf.put("draft", undefined);
    if (reason === "I write my own prompt instead") await present(null);
    else await takeNext();
  });

const undo = (which) =>
  doing(async () => {
    const back = which ?? lines.find((line) => line.can_undo)?.task;
    if (back === undefined) return view.status("There is nothing to undo in this round.");
    const held = (await door.post("undo", { task: back, key: newKey() })).task;
    lines = lines.filter((line) => line.task !== back);
    view.history(lines, undo);
    view.progress(--count);
    setFollow(null);
    shelf.put("draft", undefined);
    await present(held);
  });

// ---- beginning

listen({
  state: () => ({ composing: !$("composer").hidden, judging: !$("judging").hidden, held: Boolean(task), saved: !$("saved").hidden, idle: !$("idle").hidden, safety: kind === "safety" }),
  choose: (choice) => { change({ choice }); draw(); },
  label: (safety) => { change({ safety }); draw(); },
  edited: (text) => change({ edits: { ...draft.edits, [side()]: text } }),
  editSafe: (safe) => change({ edit_safe: safe }),
  restore: () => { change({ edits: { ...draft.edits, [side()]: texts[side()] } }); draw(); },
  typed: (text) => keepPrompt(text),
  next: () => doing(takeNext),
  submit, send, skip, undo,
});
document.addEventListener("visibilitychange", tick);
setInterval(saveDraft, 1000 * HEARTBEAT_SECONDS);
setInterval(() => $("idle").hidden || doing(takeNext), 1000 * LOOK_SECONDS);
doing(async () => {
  const begun = await door.post("start");
  [lines, count] = [begun.history, begun.num_judged];
  view.progress(count);
  view.history(lines, undo);
  if (shelf.get("guidelines") !== guidelinesVersion) {
    shelf.put("guidelines", guidelinesVersion); // a new version opens by itself, once
    view.guidelines(true, false);
  }
  if (shelf.get("pending")) await deliver();
  else if (follow) showSaved();
  else await takeNext();
});
