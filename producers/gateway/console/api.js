// The gateway's HTTP calls, and the key that they carry.

/** The gateway's answer to a call that did not succeed; `status` is 0 where there was no answer. */
export class ApiError extends Error {
  constructor(status, { code = "unreachable", message = "The gateway does not answer.", param = null } = {}, retryAfterS = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same call may succeed later. */
  get isPassing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** A gateway under this page's origin, called with `key` if it is not null. */
export class Api {
  constructor(key = null) {
    this.key = key;
  }

  /** Return the answer's body. Throw ApiError. */
  async call(method, path, body = undefined) {
    const headers = {};
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const answer = await this.#fetch(path, { method, headers, keepalive: path.endsWith("/input"), body: body === undefined ? undefined : JSON.stringify(body) });
    const content = await answer.json().catch(() => null);
    if (answer.ok) return content;
    const fallback = { code: `http_${answer.status}`, message: `The gateway answered ${answer.status}.` };
    throw new ApiError(answer.status, content?.error ?? fallback, Number(answer.headers.get("retry-after")) || 0);
  }

  async #fetch(path, init) {
    try {
      return await fetch(path, { ...init, cache: "no-store", signal: AbortSignal.timeout(15_000) });
    } catch {
      throw new ApiError(0);
    }
  }

  /** Open a group with one session for each of `variants`; return `{id, sessions}`. */
  openGroup(session, variants) {
    return this.call("POST", "/v1/sessions", { session, variants });
  }

  /** Send client events to a session or group. */
  send(id, events) {
    return this.call("POST", `/v1/sessions/${encodeURIComponent(id)}/input`, { events });
  }

  /** Return `{phase, last_seq}` of a session. */
  look(id) {
    return this.call("GET", `/v1/sessions/${encodeURIComponent(id)}`);
  }

  /** Return a link to listen to one session. */
  link(id) {
    return this.call("POST", `/v1/sessions/${encodeURIComponent(id)}/links`, { expires_in_s: 86_400 });
  }

  /** Open a WebSocket on the events of a session behind the event `after`. */
  openSocket(id, after) {
    const url = new URL("/v1/realtime", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("session", id);
    url.searchParams.set("after", after);
    return new WebSocket(url, this.key ? ["decalage", `decalage.key.${this.key}`] : []);
  }
}
