// A client as docs/wire.md describes one. It runs in browsers and in Node.js: both have WebSocket and fetch.
// It keeps the last contiguous seq, shows each message once, in order, and comes back with `after`. It acknowledges what it
// has, at most once in a while, and says again what the server has not stored.

class ChatClient {
  cursor = 0;
  epoch = undefined; // of the cursor: named by `joined` and `reset`
  shown = [];
  repeats = 0;
  connections = []; // what each said in its join, and what became of it
  acknowledged = 0; // on this connection, or stored by the server
  wait = 100;

  constructor({ httpUrl, wsUrl, token, conversationId }) {
    Object.assign(this, { httpUrl, wsUrl, token, conversationId });
  }

  connect() {
    const socket = new WebSocket(this.wsUrl, ["millrace.v1", `bearer.${this.token}`]);
    const connection = { after: null, protocol: null, code: null };
    let joined = false;
    this.acknowledge = () => {
      if (!joined || socket.readyState !== WebSocket.OPEN || this.acknowledged >= this.cursor) return;
      this.acknowledged = this.cursor;
      socket.send(JSON.stringify({ type: "ack", conversationId: this.conversationId, seq: this.cursor }));
    };
    const acknowledging = setInterval(() => this.acknowledge(), 200);
    this.connections.push(connection);
    this.join = () => {
      connection.after = this.cursor;
      const { conversationId: id, cursor: after, epoch } = this;
      socket.send(JSON.stringify({ type: "join_conversation", id, after, epoch }));
    };
    socket.onmessage = ({ data }) => {
      connection.protocol = socket.protocol;
      this.wait = 100;
      const frame = JSON.parse(data);
      if (frame.type === "joined") {
        joined = true;
        this.epoch = frame.epoch;
        this.acknowledged = frame.deliveredSeq;
      }
      this.hear(frame);
    };
    socket.onclose = ({ code }) => {
      connection.code = code;
      clearInterval(acknowledging);
      setTimeout(() => this.connect(), Math.random() * this.wait);
      this.wait = Math.min(2 * this.wait, 3000);
    };
  }

  hear(frame) {
    if (frame.type === "connected") this.join();
    if (frame.type === "reset" && frame.conversationId === this.conversationId) this.reset(frame);
    const placed = ["new_message", "conversation_changed", "media_ready"].includes(frame.type);
    if (!placed || frame.conversationId !== this.conversationId) return;
    if (frame.seq <= this.cursor) this.repeats += 1;
    else if (frame.seq > this.cursor + 1) this.join(); // a gap: ask for what is missing
    else {
      this.cursor = frame.seq;
      if (frame.message) this.shown.push([frame.seq, frame.message.senderId, frame.message.content]);
    }
  }

  // The server's store went back in time: what is above `from` comes anew.
  reset({ from, epoch }) {
    this.epoch = epoch;
    this.cursor = Math.min(this.cursor, from);
    this.acknowledged = Math.min(this.acknowledged, from);
    this.shown = this.shown.filter(([seq]) => seq <= from);
  }

  // Sends until it is known what became of it; a repeat makes no second message.
  async send(content) {
    const message = { conversationId: this.conversationId, type: "text", content };
    const body = JSON.stringify({ ...message, clientMessageId: crypto.randomUUID() });
    const headers = { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" };
    for (let wait = 50; ; wait = Math.min(2 * wait, 1000)) {
      try {
        const signal = AbortSignal.timeout(5000);
        const answer = await fetch(`${this.httpUrl}/messages`, { method: "POST", headers, body, signal });
        if (answer.ok) return (await answer.json()).seq;
        if (answer.status < 429) throw new RangeError(`refused: ${answer.status}`);
      } catch (error) {
        if (error instanceof RangeError) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  state() {
    const { cursor, shown, repeats, connections } = this;
    return { cursor, shown, repeats, connections };
  }
}

globalThis.ChatClient = ChatClient;
