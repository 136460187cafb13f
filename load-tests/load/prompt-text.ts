// Prompts of a wanted number of tokens for a server whose tokenizer is not known: random words, as many as the
// measured ratio of tokens to words asks for. The server's own count is what reports use.

import { Random } from "./random.ts";

const words =
  `about after again air all along also always and animal another answer any are around ask away back
because been before began below between big book both boy bring but call came can car carry change children city close
come could country cut day did different does done door down draw each early earth eat end enough even every eye face
family far father feet few find first follow food for form found four from gave get girl give good great group grow
had half hand hard has have head hear help her here high him his home house how idea if important into it its just
keep kind know land large last later learn leave left let letter life light like line list little live long look made
make man many mark may mean men might mile miss money more morning most mother mountain move much must name near need
never new next night no not now number off often old on once one only open or other our out over own page paper part
people place plant play point press problem put question quick quite read real right river room round run said same
saw say school sea second see seem sentence set she should show side small so some song soon sound spell stand start
state still stop story study such sun take talk tell than that the their them then there these they thing think this
those thought three through time to together too took tree try turn two under until up us use very voice walk want
war was watch water way we well went were what when where which while white who why will with wood word work world
would write year you young`.split(/\s+/);

export const calibrationWords = 200;

export function promptText(tokens: number, tokensPerWord: number, seed: number): string {
  const count = Math.max(1, Math.round(tokens / tokensPerWord));
  const random = new Random(seed);
  return Array.from({ length: count }, () => words[random.below(words.length)]).join(" ");
}
