// The microphone: a tone.
const context = new AudioContext();
const tone = context.createOscillator();
const level = context.createGain();
level.gain.value = 0.3;
tone.connect(level);
tone.start();
navigator.mediaDevices.getUserMedia = async () => {
  await context.resume();
  const out = context.createMediaStreamDestination();
  level.connect(out);
  return out.stream;
};
// The devices are always the same. Where the list changes, as it may in a browser's first moments, the official SDK stops its microphone and
// asks for another: also while a call that is being answered has that one, and says nothing from then on.
navigator.mediaDevices.enumerateDevices = async () => [{ deviceId: "default", groupId: "tone", kind: "audioinput", label: "a tone" }];

// What is heard in a stream: the strongest frequency, and how loud all of it is, of full scale.
async function heardIn(stream, milliseconds = 400) {
  if (!stream || !stream.getAudioTracks().length) return { hertz: 0, level: 0 };
  const source = context.createMediaStreamSource(stream);
  const analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  analyser.smoothingTimeConstant = 0;
  source.connect(analyser);
  await new Promise((done) => setTimeout(done, milliseconds));
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  source.disconnect();
  const best = bins.indexOf(Math.max(...bins));
  return {
    hertz: (best * context.sampleRate) / analyser.fftSize,
    level: Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length),
  };
}
