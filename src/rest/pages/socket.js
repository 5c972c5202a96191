// What both kinds of WebSockets here have in common.

const FIRST_MS = 500;
const LONGEST_MS = 10000;

// Waits between attempts: longer each time, and not the same for all pages that wait for one server.
export class Backoff {
  #wait = FIRST_MS;
  #timer = 0;
  #next = null;

  reset() {
    this.#wait = FIRST_MS;
    this.cancel();
  }

  cancel() {
    clearTimeout(this.#timer);
    this.#next = null;
  }

  // Runs `next` after a wait, and returns how long that is in ms.
  then(next) {
    const wait = this.#wait * (0.75 + Math.random() / 2);
    this.#wait = Math.min(this.#wait * 2, LONGEST_MS);
    clearTimeout(this.#timer);
    this.#next = next;
    this.#timer = setTimeout(() => this.hurry(), wait);
    return wait;
  }

  // Does at once what is waited for, if anything is.
  hurry() {
    const next = this.#next;
    this.cancel();
    next?.();
  }
}

export function socketUrl(path, query) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = new URLSearchParams(query).toString();
  return url;
}
