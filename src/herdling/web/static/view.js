// What the annotator sees: one function for each thing that changes on the page. Texts of models and people are set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const PARTS = ["composer", "idle", "sampling", "judging", "saved"];
const WORDS = ["significantly better", "better", "slightly better", "negligibly better or unsure"];

/** Show these parts of the page and hide the others. */
export function show(...parts) {
  for (const part of PARTS) $(part).hidden = !parts.includes(part);
}

/** Say something that needs a decision; no text takes it away. */
export function alertWith(text = "", label = "", action = null) {
  $("alert").hidden = !text;
  $("alert").querySelector("span").textContent = text;
  $("alert-action").hidden = !label;
  $("alert-action").textContent = label;
  $("alert-action").onclick = action;
}

/** Say how things are, in passing. */
export function status(text = "") {
  $("status").hidden = !text;
  $("status").textContent = text;
}

export function progress(count) {
  $("progress").textContent = `${count} judged in this round`;
}

/** Show the conversation up to where the two answers follow. */
export function turns(messages) {
  const names = { user: "You", assistant: "Assistant", system: "Instructions", tool: "Tool" };
  $("turns").replaceChildren(
    ...messages.map(({ role, text }) => {
      const item = document.createElement("li");
      item.className = `turn ${role}`;
      const name = document.createElement("b");
      name.textContent = names[role] ?? role;
      const said = document.createElement("p");
      said.textContent = text;
      item.append(name, said);
      return item;
    }),
  );
}

export function answers(left, right) {
  $("left").querySelector(".text").textContent = left;
  $("right").querySelector(".text").textContent = right;
}

/** Mark what is chosen so far: the buttons, and the answer that is better. */
export function chosen(choice, safety) {
  for (const input of document.querySelectorAll("input[name=choice]")) input.checked = Number(input.value) === choice;
  for (const input of document.querySelectorAll("input[name=safety]")) input.checked = input.value === safety;
  $("left").classList.toggle("better", choice >= 1 && choice <= 4);
  $("right").classList.toggle("better", choice >= 5);
  $("left-name").textContent = choice >= 1 && choice <= 4 ? "Left · your choice" : "Left";
  $("right-name").textContent = choice >= 5 ? "Right · your choice" : "Right";
}

export function inWords(choice) {
  return choice <= 4 ? `left ${WORDS[choice - 1]}` : `right ${WORDS[8 - choice]}`;
}

/** Set up the box for a prompt, or for what the annotator says next. */
export function composer({ text, label, note }) {
  $("composer-label").textContent = label;
  $("composer-note").textContent = note;
  $("prompt").value = text;
}

/** Say what is waited for; a task that is held may be skipped meanwhile. */
export function sampling(text, busy, maySkip) {
  $("skip-sampling").hidden = !maySkip;
  $("sampling-text").textContent = text;
  $("sampling").classList.toggle("busy", busy);
}

/** List what was judged in this round, each with its way back. */
export function history(lines, undo) {
  $("history").hidden = !lines.length;
  $("history-list").replaceChildren(
    ...lines.map((line) => {
      const item = document.createElement("li");
      const prompt = document.createElement("span");
      prompt.textContent = line.prompt;
      const said = document.createElement("small");
      said.textContent = inWords(line.choice) + (line.edited ? ", edited" : "");
      item.append(prompt, said);
      if (line.can_undo) {
        const back = document.createElement("button");
        back.className = "quiet";
        back.textContent = "Undo";
        back.setAttribute("aria-label", `Undo the judgement of: ${line.prompt}`);
        back.onclick = () => undo(line.task);
        item.append(back);
      }
      return item;
    }),
  );
}

/** Open or close the guidelines beside the work. Who opened them reads there next; who closes them is back where the keys work. */
export function guidelines(open, takeFocus = true) {
  const panel = $("guidelines");
  const inside = panel.contains(document.activeElement);
  panel.hidden = !open;
  $("show-guidelines").setAttribute("aria-expanded", String(open));
  document.body.classList.toggle("with-panel", open);
  if (open && takeFocus) panel.focus();
  if (!open && inside) $("show-guidelines").focus();
}
