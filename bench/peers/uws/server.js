// The peer in C++: uWebSockets.js, one node. POST /messages is answered after the commit of one row; then the message goes
// to all sockets.   PGDSN=… node server.js PORT
const uws = require("@trufflesuite/uws-js-unofficial");
const { Pool } = require("pg");
const { randomUUID } = require("crypto");

const pool = new Pool({ connectionString: process.env.PGDSN, max: 16 });
const insert = "INSERT INTO bench_peers.messages (id, conversation_id, client_message_id, content) VALUES ($1, $2, $3, $4)";

async function accept(res, body) {
  const said = JSON.parse(body);
  const id = randomUUID();
  await pool.query({ name: "insert", text: insert, values: [id, said.conversationId, said.clientMessageId, said.content] });
  app.publish("room", JSON.stringify({ type: "new_message", messageId: id, conversationId: said.conversationId, content: said.content }));
  if (!res.gone)
    res.cork(() => res.writeStatus("201 Created").writeHeader("content-type", "application/json").end(JSON.stringify({ messageId: id, status: "sent" })));
}

const app = uws
  .App()
  .ws("/*", { compression: uws.DISABLED, idleTimeout: 120, maxBackpressure: 64 * 1024 * 1024, open: (socket) => socket.subscribe("room") })
  .post("/messages", (res) => {
    let body = Buffer.alloc(0);
    res.onAborted(() => (res.gone = true));
    res.onData((chunk, isLast) => {
      body = Buffer.concat([body, Buffer.from(chunk)]); // the chunk is valid in this call only
      if (isLast) accept(res, body).catch((error) => { console.error(error.message); if (!res.gone) res.cork(() => res.writeStatus("500").end()); });
    });
  })
  .listen("127.0.0.1", +process.argv[2], (listening) => (listening ? console.log("ready") : process.exit(1)));
