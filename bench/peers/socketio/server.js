// The everyday peer: socket.io with its Redis adapter. POST /messages is answered after the commit of one row; the message
// goes to the room through Redis.   PGDSN=… REDIS_URL=… node server.js PORT
const http = require("http");
const { randomUUID } = require("crypto");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.PGDSN, max: 16 });
const insert = "INSERT INTO bench_peers.messages (id, conversation_id, client_message_id, content) VALUES ($1, $2, $3, $4)";

async function accept(io, body, response) {
  const said = JSON.parse(body);
  const id = randomUUID();
  await pool.query({ name: "insert", text: insert, values: [id, said.conversationId, said.clientMessageId, said.content] });
  io.to("room").emit("new_message", { messageId: id, conversationId: said.conversationId, content: said.content });
  response.writeHead(201, { "content-type": "application/json" });
  response.end(JSON.stringify({ messageId: id, status: "sent" }));
}

async function main() {
  const publisher = createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const server = http.createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => accept(io, body, response).catch((error) => { console.error(error.message); response.writeHead(500).end(); }));
  });
  const io = new Server(server, { adapter: createAdapter(publisher, subscriber), transports: ["websocket"], perMessageDeflate: false });
  io.on("connection", (socket) => socket.join("room"));
  server.listen(+process.argv[2], "127.0.0.1", () => console.log("ready"));
}

main();
