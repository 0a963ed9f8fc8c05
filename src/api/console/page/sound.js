// What is heard and said: the ring, how loud somebody is, the microphone.

// Browsers let a page make a sound only after somebody has used it, so the context is made then.
let context = null;

function wake() {
  if (!context) {
    context = new AudioContext();
    context.onstatechange = () => dispatchEvent(new Event("sound-changed"));
  }
  context.resume();
}

for (const use of ["click", "keydown"]) addEventListener(use, wake, { capture: true });

export const isAudible = () => context?.state === "running";

// Two soft tones every three seconds; what it returns ends them.
export function ring() {
  const chime = () => {
    if (!isAudible()) return;
    [523, 659].forEach((hertz, at) => tone(hertz, context.currentTime + at * 0.35));
  };
  chime();
  const timer = setInterval(chime, 3000);
  return () => clearInterval(timer);
}

function tone(hertz, at) {
  const oscillator = new OscillatorNode(context, { frequency: hertz });
  const volume = new GainNode(context, { gain: 0 });
  volume.gain.setValueAtTime(0, at);
  volume.gain.linearRampToValueAtTime(0.08, at + 0.04);
  volume.gain.exponentialRampToValueAtTime(0.0005, at + 0.9);
  oscillator.connect(volume).connect(context.destination);
  oscillator.start(at);
  oscillator.stop(at + 0.9);
}

// A function that tells how loud a stream is now, from 0 to 1, as ears count: each quarter is 15 dB.
export function meter(stream) {
  if (!context) return () => 0;
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  return () => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    return Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-12) / 6));
  };
}

// The microphone; where there is none, silence and a note why: a call can be listened to all the same.
export async function microphone() {
  try {
    return { stream: await navigator.mediaDevices.getUserMedia({ audio: true }), note: "" };
  } catch (error) {
    wake();
    return { stream: new MediaStreamAudioDestinationNode(context).stream, note: whyNoMicrophone(error) };
  }
}

function whyNoMicrophone(error) {
  if (!window.isSecureContext) {
    return `You are not heard: browsers keep the microphone from pages that came without encryption. Open https://${location.host}/console/ and call again.`;
  }
  switch (error.name) {
    case "NotAllowedError":
      return "You are not heard: the microphone is blocked for this page. Allow it beside the browser’s address, and call again.";
    case "NotFoundError":
      return "You are not heard: this computer has no microphone. Connect one, and call again.";
    case "NotReadableError":
      return "You are not heard: the microphone is in use by another program. Close that, and call again.";
    default:
      return `You are not heard: the browser does not give the microphone (${error.name}).`;
  }
}
