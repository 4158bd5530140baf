// What a chat page does with files: it uploads them by tus, and shows them by signed URLs.

class FilePage {
  constructor({ httpUrl, token }) {
    Object.assign(this, { httpUrl, token });
  }

  async call(method, path, headers = {}, body = undefined) {
    const all = { Authorization: `Bearer ${this.token}`, ...headers };
    return await fetch(new URL(path, this.httpUrl), { method, headers: all, body });
  }

  async upload(name, type, base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const tus = { "Tus-Resumable": "1.0.0" };
    const encoded = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
    const metadata = `filename ${encoded(name)},filetype ${encoded(type)}`;
    const created = await this.call("POST", "/media", {
      ...tus, "Upload-Length": String(bytes.length), "Upload-Metadata": metadata,
    });
    if (created.status !== 201) throw new Error(`POST /media: ${created.status}`);
    const location = created.headers.get("Location");
    const sent = await this.call("PATCH", location, {
      ...tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
    }, bytes);
    if (sent.headers.get("Upload-Offset") !== String(bytes.length)) throw new Error(`PATCH: ${sent.status}`);
    return location.split("/").pop();
  }

  async send(conversationId, type, mediaId) {
    const body = JSON.stringify({ conversationId, type, content: "", attachments: [mediaId] });
    const answer = await this.call("POST", "/messages", { "Content-Type": "application/json" }, body);
    if (answer.status !== 201) throw new Error(`POST /messages: ${answer.status}`);
    return await answer.json();
  }

  // Shows a file in an element of the page, once it is inspected; resolves to the size that the browser gives it.
  async show(tag, mediaId) {
    let answer;
    while ((answer = await this.call("POST", `/media/${mediaId}/url`)).status === 409) {
      const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
      if (!(seconds > 0)) throw new Error((await answer.json()).detail);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    if (answer.status !== 201) throw new Error(`POST /media/…/url: ${answer.status}`);
    const element = document.createElement(tag);
    const shown = new Promise((resolve, reject) => {
      element.onerror = () => reject(new Error(`${tag} cannot be shown`));
      element[tag === "img" ? "onload" : "onloadeddata"] = resolve;
    });
    element.src = new URL((await answer.json()).url, this.httpUrl);
    document.body.append(element);
    await shown;
    return tag === "img" ? [element.naturalWidth, element.naturalHeight] : [element.videoWidth, element.videoHeight];
  }
}
