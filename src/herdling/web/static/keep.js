// Nothing typed is lost: requests that are sent again with the same key until the server has answered, and a shelf in this browser that outlives a crash.

const MOST_SECONDS = { answers: 240 }; // sampling takes as long as the models do
const FIRST_WAIT = 400, LONGEST_WAIT = 8000;

/** What the server has decided and will decide again: asking once more would not help. */
export class Refused extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** A key that names one submission: the server stores what comes under it once. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The campaign's door. `onWaiting(true)` is called while the server cannot be reached, `onWaiting(false)` when it can again. */
export class Door {
  constructor(campaign, csrf, onWaiting) {
    this.base = `/annotate/${encodeURIComponent(campaign)}`;
    this.csrf = csrf;
    this.onWaiting = onWaiting;
  }

  /** Send until there is an answer. Only for requests that may come twice: all of ours do no harm then. */
  async post(name, body = {}) {
    for (let wait = FIRST_WAIT; ; wait = Math.min(LONGEST_WAIT, wait * 2)) {
      const answer = await this.once(name, body).catch((error) => error);
      if (!(answer instanceof Error)) return answer;
      if (answer instanceof Refused) throw answer;
      this.onWaiting(true);
      await Promise.race([new Promise((done) => setTimeout(done, wait)), new Promise((done) => addEventListener("online", done, { once: true }))]);
    }
  }

  /** Send once. Throws Refused for the server's decisions, any other Error where it could not be reached or broke. */
  async once(name, body = {}) {
    const signal = AbortSignal.timeout(1000 * (MOST_SECONDS[name] ?? 30));
    const headers = { "Content-Type": "application/json", "X-CSRF-Token": this.csrf };
    const response = await fetch(`${this.base}/${name}`, { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "same-origin" });
    const answer = await response.json();
    this.onWaiting(false);
    if (response.ok) return answer;
    if (response.status >= 500 && answer.reason === "server") throw new Error(answer.message);
    throw new Refused(response.status, answer.reason, answer.message);
  }
}

/** Values by name, of one annotator in one campaign, in this browser. Where it keeps nothing (private windows) they last as long as the page. */
export class Shelf {
  constructor(...names) {
    this.name = ["herdling", ...names].join(" ");
    try {
      this.values = JSON.parse(localStorage.getItem(this.name)) ?? {};
    } catch {
      this.values = {};
    }
  }

  get(name) {
    return this.values[name];
  }

  /** Keep a value; undefined forgets it. */
  put(name, value) {
    if (value === undefined) delete this.values[name];
    else this.values[name] = value;
    try {
      localStorage.setItem(this.name, JSON.stringify(this.values));
    } catch {
      // full or forbidden: the server's draft remains
    }
  }
}
