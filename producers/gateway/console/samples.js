// Texts to begin with, in short everyday sentences, which suit a small model.
export const SAMPLES = [
  {
    name: "a neighbour",
    text: "I do not know where he lives. He left the house early this morning. His sister thinks that he went to the "
      + "station. He speaks three languages. I hope that he is well.",
  },
  {
    name: "a speech",
    text: "Thank you for coming tonight. I want to tell you a story. I did not know what to do. Then a friend gave me "
      + "some advice. He told me to learn a new language. I learned that it is never too late.",
  },
  {
    name: "at the doctor’s",
    text: "The doctor says that you need to rest. Take this medicine three times a day. Drink a lot of water. Come back "
      + "next week. Do you have any questions?",
  },
  {
    name: "by the sea",
    text: "My grandmother lives in a small house near the sea. I think that she was happy there. I still remember it. "
      + "She says that the sea is never the same. It is raining now. The film starts at eight.",
  },
];
