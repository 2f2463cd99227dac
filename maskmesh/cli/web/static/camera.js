// The camera: pictures go to the server over a WebSocket, masks come back with the number of their picture.
const MAX_SIDE = 960, FRAMES_PER_SECOND = 15, MAX_WAITING = 4;

export class Camera {
  constructor(onPicture, onMessage) {
    this.onPicture = onPicture;
    this.onMessage = onMessage;
    this.sent = new Map();
    this.next = 0;
  }

  // The size of the pictures; nothing if it was closed meanwhile.
  async open() {
    this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: MAX_SIDE } }, audio: false });
    if (this.isClosed) return this.close();
    this.video = document.createElement("video");
    Object.assign(this.video, { srcObject: this.stream, muted: true, playsInline: true });
    await this.video.play();
    const scale = Math.min(1, MAX_SIDE / Math.max(this.video.videoWidth, this.video.videoHeight));
    this.canvas = document.createElement("canvas");
    this.canvas.width = Math.round(this.video.videoWidth * scale);
    this.canvas.height = Math.round(this.video.videoHeight * scale);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.socket.onclose = () => this.onMessage({ type: "closed" });
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = () => reject(new Error("the live connection cannot be opened"));
    });
    if (this.isClosed) return this.close();
    this.timer = setInterval(() => this.send(), 1000 / FRAMES_PER_SECOND);
    return { width: this.canvas.width, height: this.canvas.height };
  }

  async send() {
    if (this.isSending || this.socket.readyState !== WebSocket.OPEN || this.socket.bufferedAmount > 2 ** 21) return;
    if (this.sent.size > MAX_WAITING) return;
    this.isSending = true;
    try {
      this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
      const picture = await createImageBitmap(this.canvas);
      const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", 0.85));
      const content = await blob.arrayBuffer();
      // The connection may have been closed while the picture was encoded.
      if (this.socket.readyState !== WebSocket.OPEN) return;
      this.socket.send(content);
      this.sent.set(this.next++, picture);
    } finally {
      this.isSending = false;
    }
  }

  receive(message) {
    if (message.type === "result") {
      const picture = this.sent.get(message.sequence);
      for (const sequence of [...this.sent.keys()]) if (sequence <= message.sequence) this.sent.delete(sequence);
      this.last = message.sequence;
      this.onPicture(picture, message);
    } else {
      this.onMessage(message);
    }
  }

  command(content) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ sequence: this.last || 0, ...content }));
  }

  close() {
    this.isClosed = true;
    clearInterval(this.timer);
    if (this.stream) for (const track of this.stream.getTracks()) track.stop();
    if (this.socket) this.socket.close();
  }
}
