/** Nominal typing for ids and descriptors. A branded value is made by one parse or open function only. */
declare const brand: unique symbol;
export type Branded<T, B extends string> = T & { readonly [brand]: B };
