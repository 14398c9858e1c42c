// Copies a table with copy-dynamodb-table, as its own page says: node copy.js ENDPOINT REGION SOURCE TARGET
'use strict'
const { copy } = require('copy-dynamodb-table')

const [endpoint, region, source, target] = process.argv.slice(2)
const config = { endpoint, region, accessKeyId: 'bench', secretAccessKey: 'bench' }

copy({ config, source: { tableName: source }, destination: { tableName: target } }, (error, result) => {
  if (error) {
    console.error(error)
    process.exit(1)
  }
  console.log(JSON.stringify(result))
})
