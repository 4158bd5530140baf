// The fair peer: uWebSockets.js, one node, with what a chat must promise. POST /messages checks a token (HS256), and in one
// transaction the membership, the idempotency key, a dense seq under the row lock of the conversation, and a row of an
// outbox; a repeat gets the answer of the first. Then the message goes to the sockets of the conversation. A socket shows its
// token, and joins as a member: the frames are those of our wire, as far as the load client speaks them.
//   PGDSN=… JWT_SECRET=… node server.js PORT
const uws = require("@trufflesuite/uws-js-unofficial");
const { Pool } = require("pg");
const { createHmac, randomUUID, timingSafeEqual } = require("crypto");

const pool = new Pool({ connectionString: process.env.PGDSN, max: 16 });
const accept = "SELECT stored, place, replayed FROM bench_peers.accept($1, $2, $3, $4, $5)";
const member = "SELECT 1 FROM bench_peers.members WHERE conversation_id = $1 AND user_id = $2";
const known = new Map(); // token -> claims, as our servers remember those that they have verified

function userOf(header) {
  const token = header.startsWith("Bearer ") ? header.slice(7) : "";
  const claims = known.get(token) ?? verified(token);
  return claims && claims.exp > Date.now() / 1000 ? claims.sub : null;
}

function verified(token) {
  const [head, body, signature] = token.split(".");
  if (!signature) return null;
  const wanted = createHmac("sha256", process.env.JWT_SECRET).update(`${head}.${body}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) return null;
  if (JSON.parse(Buffer.from(head, "base64url")).alg !== "HS256") return null;
  const claims = JSON.parse(Buffer.from(body, "base64url"));
  if (known.size > 10000) known.clear();
  known.set(token, claims);
  return claims;
}

async function post(res, user, body) {
  const draft = JSON.parse(body);
  if (!user) return answer(res, "401 Unauthorized", { code: "unauthenticated" });
  const values = [randomUUID(), draft.conversationId, user, draft.content, draft.clientMessageId];
  const { rows } = await pool.query({ name: "accept", text: accept, values });
  const { stored, place, replayed } = rows[0];
  if (!stored) return answer(res, "404 Not Found", { code: "not_found" });
  const message = { messageId: stored, conversationId: draft.conversationId, seq: +place, senderId: user, content: draft.content };
  if (!replayed) app.publish(draft.conversationId, JSON.stringify({ type: "new_message", conversationId: draft.conversationId, seq: +place, message }));
  answer(res, replayed ? "200 OK" : "201 Created", { messageId: stored, seq: +place, status: "sent" });
}

function answer(res, status, body) {
  if (!res.gone) res.cork(() => res.writeStatus(status).writeHeader("content-type", "application/json").end(JSON.stringify(body)));
}

async function join(socket, command) {
  const { rows } = await pool.query({ name: "member", text: member, values: [command.id, socket.getUserData().user] });
  if (socket.gone) return;
  if (!rows.length) return socket.send(JSON.stringify({ type: "error", code: "not_found" }));
  socket.subscribe(command.id);
  socket.send(JSON.stringify({ type: "joined", id: command.id }));
}

const app = uws
  .App()
  .ws("/*", {
    compression: uws.DISABLED,
    idleTimeout: 120,
    maxBackpressure: 64 * 1024 * 1024,
    upgrade: (res, req, context) => {
      const user = userOf(req.getHeader("authorization"));
      if (!user) return res.writeStatus("401 Unauthorized").end();
      res.upgrade({ user }, req.getHeader("sec-websocket-key"), req.getHeader("sec-websocket-protocol"), req.getHeader("sec-websocket-extensions"), context);
    },
    open: (socket) => socket.send(JSON.stringify({ type: "connected" })),
    close: (socket) => (socket.gone = true),
    message: (socket, bytes) => {
      const command = JSON.parse(Buffer.from(bytes));
      if (command.type === "join_conversation") join(socket, command).catch((error) => console.error(error.message));
    },
  })
  .post("/messages", (res, req) => {
    const user = userOf(req.getHeader("authorization")); // the request is valid in this call only, and so is the chunk below
    let body = Buffer.alloc(0);
    res.onAborted(() => (res.gone = true));
    res.onData((chunk, isLast) => {
      body = Buffer.concat([body, Buffer.from(chunk)]);
      if (isLast) post(res, user, body).catch((error) => { console.error(error.message); answer(res, "500 Internal Server Error", {}); });
    });
  })
  .listen("127.0.0.1", +process.argv[2], (listening) => (listening ? console.log("ready") : process.exit(1)));
